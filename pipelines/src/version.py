"""The version of the plugin; the flattener writes the first version of CHANGELOG.md here."""

VERSION = "0.0.0+source"
