"""The rules: tables in, tables out; no files, no database, no clock."""
