"""The page that people see: NiceGUI's elements in Python, and a map of small JavaScript modules."""
