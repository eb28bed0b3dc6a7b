//! Saves a host as a recorded machine.
