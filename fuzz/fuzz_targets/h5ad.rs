//! AnnData: X, a layer, a matrix of obsm; labels and names from obs.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let arrays = [None, Some("layers/counts"), Some("obsm/X_pca")];
    dec_fuzz::rows("rows.h5ad", data, Some(Format::H5ad), &arrays, Pick::default(), 0);
    for (label_column, id_column) in [("kind", "batch"), ("score", "kind"), ("batch", "score")] {
        let pick = Pick { label_column: Some(label_column), id_column: Some(id_column), ..Pick::default() };
        dec_fuzz::rows("rows.h5ad", data, Some(Format::H5ad), &[None], pick, 0);
    }
});
