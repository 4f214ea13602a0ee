// Command influxd2 is InfluxDB 2.9.1 as a test server: its own launcher, built without its user interface.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/influxdata/influxdb/v2"
	"github.com/influxdata/influxdb/v2/cmd/influxd/launcher"
	_ "github.com/influxdata/influxdb/v2/tsdb/engine/tsm1"
	_ "github.com/influxdata/influxdb/v2/tsdb/index/tsi1"
	"github.com/spf13/viper"
)

func main() {
	influxdb.SetBuildInfo("v2.9.1", "none", "2026-05-11T00:00:00Z")
	command, err := launcher.NewInfluxdCommand(context.Background(), viper.New())
	if err == nil {
		err = command.Execute()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
