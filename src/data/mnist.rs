//! MNIST from its four IDX files: the 60,000 training digits, then the 10,000 test digits.

use std::path::Path;

use ndarray::{concatenate, Axis};

use super::input::Input;
use super::published::{Published, MNIST};
use super::{array, cache, read_rows, verified, Dataset, Features};
use crate::error::{Error, Result};

/// Reads MNIST from `dir`, or from the cache that `dec fetch mnist` fills.
///
/// What was downloaded has to be what was published, whenever it is used; files of the user's own are taken as they are.
pub(super) fn load(dir: Option<&Path>) -> Result<Dataset> {
    let cached = dir.is_none();
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => cache::mnist_dir()?,
    };
    let found = MNIST.each_ref().map(|file| file.find(&dir));
    let [Some(train_images), Some(train_labels), Some(test_images), Some(test_labels)] = &found else {
        let missing: Vec<_> =
            MNIST.iter().zip(&found).filter(|(_, path)| path.is_none()).map(|(file, _)| file.name).collect();
        return Err(missing_files(&dir, &missing));
    };
    if cached || verified::has_record(&dir) {
        for (file, path) in MNIST.iter().zip(found.iter().flatten()) {
            check(path, file, cached)?;
        }
    }
    let train = read_part(train_images, train_labels)?;
    let test = read_part(test_images, test_labels)?;
    join(train, test, test_images)
}

/// Refuses a file that is not the published one.
fn check(path: &Path, file: &Published, cached: bool) -> Result<()> {
    verified::check(path, file).map_err(|problem| {
        let dir = path.parent().unwrap_or(Path::new(""));
        let remedy = if cached {
            "`dec fetch mnist` gets it again; other digits under these names can be read with --data-dir DIR".to_owned()
        } else {
            let record = dir.join(verified::RECORD);
            format!(
                "`dec fetch mnist --data-dir {}` gets it again; without {} the files are taken as they are",
                dir.display(),
                record.display()
            )
        };
        Error::data(path, format!("is not the file that was published, or has changed: it {problem}. {remedy}"))
    })
}

fn missing_files(dir: &Path, missing: &[&str]) -> Error {
    let here = if dir.is_dir() { "" } else { " (there is no such directory)" };
    Error::data(
        dir,
        format!(
            "MNIST is not here{here}: missing {}, as .gz or raw. Run `dec fetch mnist` to download it to the cache, or \
             give the directory of the files with --data-dir",
            missing.join(", ")
        ),
    )
}

fn read_part(images: &Path, labels: &Path) -> Result<Dataset> {
    let mut part = read_rows(images)?;
    let found = array::read_labels(&mut Input::open(labels)?)?;
    if found.len() != part.n_rows() {
        let problem = format!("has {} labels, but {} has {} rows", found.len(), images.display(), part.n_rows());
        return Err(Error::data(labels, problem));
    }
    part.labels = Some(found);
    Ok(part)
}

fn join(train: Dataset, test: Dataset, test_images: &Path) -> Result<Dataset> {
    let mismatch = |what: &str| Error::data(test_images, format!("{what} than the training images in {}", train.name));
    if train.image != test.image || train.n_features() != test.n_features() {
        return Err(mismatch("has images of another size"));
    }
    let joined = match (&train.features, &test.features) {
        (Features::U8(a), Features::U8(b)) => concatenate(Axis(0), &[a.view(), b.view()]).map(Features::U8),
        (Features::F32(a), Features::F32(b)) => concatenate(Axis(0), &[a.view(), b.view()]).map(Features::F32),
        _ => return Err(mismatch("has values of another type")),
    };
    let features = joined.map_err(|_| mismatch("has images of another size"))?;
    let labels = train.labels.into_iter().chain(test.labels).flatten().collect();
    Ok(Dataset {
        features,
        labels: Some(labels),
        name: "MNIST (train + test)".to_owned(),
        image: train.image,
        ..Dataset::default()
    })
}
