"""Lab Streaming Layer: estimates out, markers in."""
