"""An index on disk: its files, manifest, rows and image records, and how they change in one step."""
