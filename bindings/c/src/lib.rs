//! libplacer: the engine for programs in C, without a daemon. `placer.h` is its documentation.
//!
//! The functions that C calls are in `api`; each goes through `border`, where panics end and pointers are
//! checked. What they do is in safe modules: `host`, `request`, `answer`, `failure`.

#![deny(unsafe_code)]

mod answer;
mod api;
mod border;
mod failure;
mod host;
mod request;
