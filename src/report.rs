//! What is shown: a view of the host, and the texts, pictures and JSON that are made of it.

pub mod balance;
pub mod claims;
pub mod doctor;
pub mod escape;
pub mod explain;
pub mod joint;
pub mod json;
pub mod moved;
pub mod schema;
pub mod svg;
pub mod text;
pub mod view;
