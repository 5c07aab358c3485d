"""What a model takes on a device, told before it is run: memory, time, and the settings that fit."""
