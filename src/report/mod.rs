//! What people look at: the table that a run ends with, and what was found about the number of clusters.

mod choice;
mod table;

pub use choice::{choice_csv, choice_svg, choice_table};
pub use table::{results_table, text_table};
