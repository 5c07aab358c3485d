"""The streamed map: exact gradients of any number of regions in the memory of one region batch."""
