"""Archives: tar streams read and written, trees unpacked and packed, compression. All of it is hostile input."""
