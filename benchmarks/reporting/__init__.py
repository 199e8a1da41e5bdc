"""What came out: files, tables and plots."""
