"""How it is measured: who runs when, and what is read from the kernel."""
