module influxd2

go 1.25.10

require (
	github.com/influxdata/influxdb/v2 v2.9.1
	github.com/spf13/viper v1.6.1
)
