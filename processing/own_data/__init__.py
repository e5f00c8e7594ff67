"""From RGB with depth or organised clouds of any camera to the layout that training reads."""
