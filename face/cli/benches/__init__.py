"""The commands of ``fettle bench``, a file each."""
