"""Arm Ethos-U through its own compiler, Vela: cycles, memory and traffic are Vela's estimates, marked as such."""
