//! From latent rows back to the units of the input.

use ndarray::{Array2, Axis, Zip};
use tch::no_grad;

use super::fitted::Model;
use crate::data::{array_of, tensor_of, Features, RowRule, Scaling};
use crate::error::Result;

/// Latent rows that are decoded at once.
const BLOCK: usize = 4096;

impl Model {
    /// x̂ \[n, d\] of latent rows \[n, m\], in raw units; rows of counts with the total of the scaling, directions of length 1.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn decode(&self, z: &Array2<f32>) -> Result<Array2<f64>> {
        let (mut rows, _) = unscaled(self, z)?;
        add_offset(self, &mut rows);
        Ok(rows)
    }

    /// x̂ \[n, d\] of raw rows, in raw units.
    ///
    /// # Errors
    /// As for [`Model::transform`].
    pub fn reconstruct(&self, features: &Features) -> Result<Array2<f64>> {
        let (z, _) = self.transform(features)?;
        let (mut rows, rule) = unscaled(self, &array_of(&z)?)?;
        if rule != RowRule::Plain {
            features.each_row(|number, row| rows.row_mut(number).mapv_inplace(|value| value * rule.size(row)))?;
        }
        add_offset(self, &mut rows);
        Ok(rows)
    }
}

/// What the decoder makes of `z`, with the scaling undone but for what was done to each row by itself.
fn unscaled(model: &Model, z: &Array2<f32>) -> Result<(Array2<f64>, RowRule)> {
    let mut rows = Array2::zeros((z.nrows(), usize::try_from(model.n_features).unwrap_or(0)));
    for (z, mut rows) in z.axis_chunks_iter(Axis(0), BLOCK).zip(rows.axis_chunks_iter_mut(Axis(0), BLOCK)) {
        let z = tensor_of(z)?.f_to_device(model.network.device())?;
        let decoded = array_of(&no_grad(|| model.network.decode(&z))?)?;
        rows.zip_mut_with(&decoded, |row, &value| *row = f64::from(value));
    }
    let rule = match &model.scaling {
        Scaling::Factor(factor) => {
            rows /= *factor;
            RowRule::Plain
        }
        Scaling::Centre { mean, deviation, rows: rule } => {
            for row in rows.rows_mut() {
                Zip::from(row).and(mean).and(deviation).for_each(|value, &mean, &deviation| {
                    *value = *value * f64::from(deviation) + f64::from(mean);
                });
            }
            *rule
        }
    };
    if let RowRule::Counts(_) = rule {
        rows.mapv_inplace(f64::exp_m1);
    }
    Ok((rows, rule))
}

fn add_offset(model: &Model, rows: &mut Array2<f64>) {
    if let Some(offset) = &model.intake.offset {
        *rows += offset;
    }
}
