//! The real numad as a subprocess, kept for parity tests.
