//! What people look at: the table that a run ends with.

mod table;

pub use table::{results_table, text_table};
