"""People's ways into components: commands, connections, files."""
