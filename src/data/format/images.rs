//! A folder of PNG and JPEG files: one image a row.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::{Path, PathBuf};

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use ndarray::Array2;

use super::lines::unreadable;
use super::{Pick, Table, Values};
use crate::error::{Error, Result};

/// The longest side and the most pixels of an image that is decoded.
const MOST_SIDE: u32 = 1 << 14;
const MOST_PIXELS: u64 = 100_000_000;
/// Bytes that the decoder may allocate for one image: as many as values may take, but neither fewer than the first, which a small
/// image takes, nor more than the second.
const DECODER_BYTES: [u64; 2] = [16 << 20, 1 << 30];
/// The largest file that is read.
const MOST_FILE_BYTES: u64 = 1 << 29;
/// Images of more pixels are made smaller if no size is asked for.
const LARGE_PIXELS: usize = 64 * 64;
/// The longer side that they get.
const SMALL_SIDE: usize = 32;
/// How many entries [`is_image_folder`] looks at.
const MOST_PROBED: usize = 10_000;
/// How deep folders are followed.
const MOST_DEPTH: usize = 64;

/// Whether a path is a folder with a PNG or JPEG file in it or below it, as its first ten thousand entries show.
pub fn is_image_folder(path: &Path) -> bool {
    let mut walk = Walk { probed: Some(MOST_PROBED), ..Walk::default() };
    walk.folder(path, "", 0).is_ok() && !walk.images.is_empty()
}

/// Reads the images of a folder and its sub-folders, sorted by path. They all get one size and one kind: grey if all
/// are grey. Without [`Pick::image_size`], images that all have more than 64 x 64 pixels are made small.
pub fn read_folder(path: &Path, pick: &Pick) -> Result<Table> {
    let mut walk = Walk::default();
    walk.folder(path, "", 0)?;
    walk.images.sort_unstable();
    if walk.images.is_empty() {
        return Err(Error::data(path, "holds no PNG or JPEG files; check the folder's name"));
    }
    let mut sizes = Vec::with_capacity(walk.images.len());
    for id in &walk.images {
        sizes.push(read_size(&path.join(id), pick)?);
    }
    let mut notes = walk.notes();
    let [height, width] = choose_size(path, &sizes, pick.image_size, &mut notes)?;
    drop(sizes);
    let mut pixels = Pixels::new(path, pick, walk.images.len(), height * width)?;
    let mut transparent = 0;
    for id in &walk.images {
        let (picture, had_alpha) = read_picture(&path.join(id), pick)?;
        transparent += u64::from(had_alpha);
        pixels.push(picture.resized(height, width))?;
    }
    if transparent > 0 {
        notes.push(format!("images that have transparent pixels and were laid on white: {transparent}"));
    }
    let channels = pixels.channels;
    let values = Array2::from_shape_vec((walk.images.len(), height * width * channels), pixels.data)
        .map_err(|error| Error::data(path, format!("the images do not fit an array ({error}); report this")))?;
    let labels = pick.folder_labels.then(|| {
        let first_folder = |id: &String| id.split_once('/').map(|(folder, _)| folder.to_owned());
        walk.images.iter().map(first_folder).collect()
    });
    let image = Some([height, width, channels]);
    Ok(Table { values: Values::U8(values), image, ids: walk.images, labels, notes, ..Table::default() })
}

/// What a walk through folders found.
#[derive(Default)]
struct Walk {
    /// Paths of the images, from the first folder, with "/" between folders.
    images: Vec<String>,
    others: u64,
    /// Folders that links lead to again.
    again: u64,
    seen: HashSet<PathBuf>,
    /// If the walk is to stop at the first image: how many entries it may still look at.
    probed: Option<usize>,
}

impl Walk {
    /// Walks through a folder, whose path below the first one is `prefix`. Links are followed, but no folder is read
    /// twice.
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<()> {
        let failed = |error: &std::io::Error| unreadable(folder, "the folder cannot be read", error);
        let place = fs::canonicalize(folder).map_err(|error| failed(&error))?;
        if depth > MOST_DEPTH {
            return Err(Error::data(folder, format!("lies more than {MOST_DEPTH} folders deep; move the images up")));
        }
        if !self.seen.insert(place) {
            self.again += 1;
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| failed(&error))? {
            names.push(entry.map_err(|error| failed(&error))?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let Some(text) = name.to_str() else {
                self.others += 1;
                continue;
            };
            if text.starts_with('.') {
                continue;
            }
            if let Some(left) = &mut self.probed {
                if *left == 0 || !self.images.is_empty() {
                    return Ok(());
                }
                *left -= 1;
            }
            self.entry(&folder.join(text), &format!("{prefix}{text}"), depth)?;
        }
        Ok(())
    }

    /// Takes one entry of a folder.
    fn entry(&mut self, path: &Path, id: &str, depth: usize) -> Result<()> {
        let metadata = fs::metadata(path);
        if metadata.as_ref().is_ok_and(fs::Metadata::is_dir) {
            return self.folder(path, &format!("{id}/"), depth + 1);
        }
        // A link that leads nowhere is kept: reading it gives an error that names it.
        let readable = metadata.map_or(true, |metadata| metadata.is_file());
        if readable && has_image_name(path) {
            self.images.push(id.to_owned());
        } else {
            self.others += 1;
        }
        Ok(())
    }

    /// What to say about entries that were left out.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.others > 0 {
            notes.push(format!("other files in the folder, not PNG or JPEG, that were left out: {}", self.others));
        }
        if self.again > 0 {
            notes.push(format!("links to folders that were read already, left out: {}", self.again));
        }
        notes
    }
}

/// Whether a name ends as those of images do.
fn has_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// An error about an image.
fn broken(path: &Path, error: &ImageError) -> Error {
    match error {
        ImageError::Limits(_) => {
            let problem =
                format!("is larger than {MOST_SIDE} pixels on a side, or takes too much memory; make it smaller");
            Error::data(path, problem)
        }
        ImageError::IoError(error) => unreadable(path, "the image cannot be read", error),
        _ => Error::data(path, format!("the image cannot be decoded ({error}); replace or delete it")),
    }
}

/// Reads an image's header.
fn decoder<'a>(path: &Path, bytes: impl BufRead + Seek + 'a, pick: &Pick) -> Result<impl ImageDecoder + 'a> {
    let mut reader = ImageReader::new(bytes)
        .with_guessed_format()
        .map_err(|error| unreadable(path, "the image cannot be read", &error))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(Error::data(path, "is no PNG or JPEG image, in spite of its name; replace or delete it"));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_SIDE);
    limits.max_image_height = Some(MOST_SIDE);
    let [least, most] = DECODER_BYTES;
    let allowed = pick.most_bytes.clamp(least, most);
    limits.max_alloc = Some(allowed);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| broken(path, &error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS || width == 0 || height == 0 {
        let problem = format!("is {height}x{width}, but images of 1 to {MOST_PIXELS} pixels are read; make it smaller");
        return Err(Error::data(path, problem));
    }
    // The decoder's own limit is about what it allocates besides.
    Pick { most_bytes: allowed, ..*pick }.check_bytes(path, "the pixels of this image", decoder.total_bytes())?;
    Ok(decoder)
}

/// Reads an image's height and width, turned as its EXIF orientation says.
fn read_size(path: &Path, pick: &Pick) -> Result<[usize; 2]> {
    let file = open(path)?;
    let mut decoder = decoder(path, BufReader::new(file), pick)?;
    let (width, height) = decoder.dimensions();
    let turned = matches!(
        decoder.orientation().map_err(|error| broken(path, &error))?,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (height, width) = if turned { (width, height) } else { (height, width) };
    Ok([height as usize, width as usize])
}

/// Opens a file that is not too large.
fn open(path: &Path) -> Result<fs::File> {
    let failed = |error: std::io::Error| unreadable(path, "the image cannot be opened", &error);
    let file = fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > MOST_FILE_BYTES {
        let problem =
            format!("has {length} bytes, but images of up to {MOST_FILE_BYTES} bytes are read; make it smaller");
        return Err(Error::data(path, problem));
    }
    Ok(file)
}

/// A decoded image.
enum Picture {
    Grey(GrayImage),
    Colour(RgbImage),
}

impl Picture {
    /// The image in another size.
    fn resized(self, height: usize, width: usize) -> Self {
        let (height, width) = (height as u32, width as u32);
        match self {
            Self::Grey(image) if image.dimensions() != (width, height) => {
                Self::Grey(imageops::resize(&image, width, height, FilterType::Triangle))
            }
            Self::Colour(image) if image.dimensions() != (width, height) => {
                Self::Colour(imageops::resize(&image, width, height, FilterType::Triangle))
            }
            same => same,
        }
    }
}

/// Reads an image in 8 bits, turned as its EXIF orientation says; grey if all pixels are. Also whether pixels were
/// transparent.
fn read_picture(path: &Path, pick: &Pick) -> Result<(Picture, bool)> {
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes)
        .map_err(|error| unreadable(path, "the image cannot be read", &error))?;
    check_jpeg_end(path, &bytes)?;
    let mut decoder = decoder(path, Cursor::new(&bytes), pick)?;
    let orientation = decoder.orientation().map_err(|error| broken(path, &error))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| broken(path, &error))?;
    image.apply_orientation(orientation);
    let color = image.color();
    if !color.has_color() && !color.has_alpha() {
        return Ok((Picture::Grey(image.into_luma8()), false));
    }
    let (image, transparent) = if color.has_alpha() { on_white(image) } else { (image.into_rgb8(), false) };
    if image.pixels().any(|pixel| pixel[0] != pixel[1] || pixel[0] != pixel[2]) {
        return Ok((Picture::Colour(image), transparent));
    }
    let (width, height) = image.dimensions();
    let grey = GrayImage::from_fn(width, height, |x, y| image::Luma([image.get_pixel(x, y)[0]]));
    Ok((Picture::Grey(grey), transparent))
}

/// Refuses a JPEG without an end after its last scan: it was cut short, and the decoder would fill it with grey.
fn check_jpeg_end(path: &Path, bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Ok(());
    }
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    if last(0xd9) > last(0xda) {
        return Ok(());
    }
    Err(Error::data(path, "the JPEG image has no end, so it was cut short; replace or delete it"))
}

/// Lays an image on white. Also whether a pixel was transparent.
fn on_white(image: DynamicImage) -> (RgbImage, bool) {
    let image = image.into_rgba8();
    let transparent = image.pixels().any(|pixel| pixel[3] < u8::MAX);
    let (width, height) = image.dimensions();
    let laid = RgbImage::from_fn(width, height, |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        let alpha = u32::from(alpha);
        let lay = |channel: u8| ((u32::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        image::Rgb([lay(red), lay(green), lay(blue)])
    });
    (laid, transparent)
}

/// The one height and width of all images.
fn choose_size(
    path: &Path,
    sizes: &[[usize; 2]],
    wanted: Option<[usize; 2]>,
    notes: &mut Vec<String>,
) -> Result<[usize; 2]> {
    let mut counts: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    for &size in sizes {
        *counts.entry(size).or_default() += 1;
    }
    if let Some([height, width]) = wanted {
        if !(1..=MOST_SIDE as usize).contains(&height) || !(1..=MOST_SIDE as usize).contains(&width) {
            let problem = format!("images cannot be resized to {height}x{width}; give sides from 1 to {MOST_SIDE}");
            return Err(Error::data(path, problem));
        }
        let changed = sizes.len() - counts.get(&[height, width]).copied().unwrap_or(0);
        if changed > 0 {
            notes.push(format!("images that were resized to {height}x{width}: {changed} of {}", sizes.len()));
        }
        return Ok([height, width]);
    }
    if counts.keys().all(|size| size[0] * size[1] > LARGE_PIXELS) {
        let smaller: HashSet<[usize; 2]> = counts.keys().map(|&size| shrunk(size)).collect();
        let one = smaller.iter().next().copied().filter(|_| smaller.len() == 1);
        let [height, width] = one.unwrap_or([SMALL_SIDE, SMALL_SIDE]);
        notes
            .push(format!("the images are large and were resized to {height}x{width}; --image-size sets another size"));
        return Ok([height, width]);
    }
    match counts.keys().next() {
        Some(&size) if counts.len() == 1 => Ok(size),
        _ => Err(Error::data(
            path,
            format!("the images differ in size: {}; give one size, as in --image-size 28x28", list(&counts)),
        )),
    }
}

/// A size whose longer side is 32, the sides' ratio kept.
fn shrunk([height, width]: [usize; 2]) -> [usize; 2] {
    let longer = height.max(width).max(1);
    [height, width].map(|side| ((side * SMALL_SIDE + longer / 2) / longer).max(1))
}

/// The three commonest sizes, for an error.
fn list(counts: &BTreeMap<[usize; 2], usize>) -> String {
    let mut sizes: Vec<_> = counts.iter().collect();
    sizes.sort_by_key(|(_, &count)| std::cmp::Reverse(count));
    let mut parts: Vec<String> =
        sizes.iter().take(3).map(|([height, width], count)| format!("{height}x{width} ({count} of them)")).collect();
    if sizes.len() > 3 {
        parts.push(format!("and {} other sizes", sizes.len() - 3));
    }
    parts.join(", ")
}

/// The images' pixels, one image after the other. Grey ones take one byte a pixel until a coloured one comes.
struct Pixels<'a> {
    path: &'a Path,
    pick: &'a Pick<'a>,
    images: usize,
    /// Pixels of an image.
    area: usize,
    channels: usize,
    data: Vec<u8>,
}

impl<'a> Pixels<'a> {
    /// Room for `images` grey images of `area` pixels.
    fn new(path: &'a Path, pick: &'a Pick<'a>, images: usize, area: usize) -> Result<Self> {
        let mut pixels = Self { path, pick, images, area, channels: 1, data: Vec::new() };
        pixels.reserve()?;
        Ok(pixels)
    }

    /// Makes room for all images, if that is within the memory.
    fn reserve(&mut self) -> Result<()> {
        let bytes = (self.images as u64).saturating_mul(self.area as u64).saturating_mul(self.channels as u64);
        self.pick.check_bytes(self.path, "the images", bytes)?;
        self.data.reserve_exact(bytes as usize - self.data.len());
        Ok(())
    }

    /// Adds an image.
    fn push(&mut self, picture: Picture) -> Result<()> {
        match picture {
            Picture::Grey(image) if self.channels == 1 => self.data.extend_from_slice(&image),
            Picture::Grey(image) => self.data.extend(image.iter().flat_map(|&grey| [grey; 3])),
            Picture::Colour(image) => {
                if self.channels == 1 {
                    self.widen()?;
                }
                self.data.extend_from_slice(&image);
            }
        }
        Ok(())
    }

    /// Turns the grey images into coloured ones, in place.
    fn widen(&mut self) -> Result<()> {
        self.channels = 3;
        self.reserve()?;
        let grey = self.data.len();
        self.data.resize(3 * grey, 0);
        for at in (0..grey).rev() {
            let value = self.data[at];
            self.data[3 * at..3 * at + 3].fill(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use image::{ImageBuffer, Luma, Rgb, Rgba};

    use super::*;

    fn pick() -> Pick<'static> {
        Pick { most_bytes: 1 << 20, ..Pick::default() }
    }

    fn grey(path: &Path, width: u32, height: u32, value: u8) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_pixel(width, height, Luma([value])).save(path).unwrap();
    }

    fn values(table: &Table) -> &Array2<u8> {
        let Values::U8(values) = &table.values else { panic!("not bytes") };
        values
    }

    fn refused(folder: &Path, pick: &Pick) -> String {
        read_folder(folder, pick).unwrap_err().to_string()
    }

    #[test]
    fn reads_sub_folders_in_order_with_labels() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        grey(&root.join("b/deep/2.png"), 3, 2, 20);
        grey(&root.join("a/1.PNG"), 3, 2, 10);
        grey(&root.join("top.png"), 3, 2, 30);
        grey(&root.join(".hidden/3.png"), 3, 2, 40);
        grey(&root.join("a/.4.png"), 3, 2, 40);
        fs::write(root.join("readme.txt"), "x").unwrap();
        assert!(is_image_folder(root) && !is_image_folder(&root.join("top.png")));
        let table = read_folder(root, &Pick { folder_labels: true, ..pick() }).unwrap();
        assert_eq!(table.ids, ["a/1.PNG", "b/deep/2.png", "top.png"]);
        assert_eq!(table.labels, Some(vec![Some("a".into()), Some("b".into()), None]));
        assert_eq!(table.image, Some([2, 3, 1]));
        assert_eq!(values(&table).column(5).to_vec(), [10, 20, 30]);
        assert_eq!(table.notes.len(), 1);
        assert_eq!(read_folder(root, &pick()).unwrap().labels, None);
    }

    #[test]
    fn a_coloured_image_makes_all_of_them_coloured() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        grey(&root.join("1.png"), 2, 1, 9);
        RgbImage::from_pixel(2, 1, Rgb([5, 5, 5])).save(root.join("2.png")).unwrap();
        let table = read_folder(root, &pick()).unwrap();
        assert_eq!((table.image, values(&table).row(1).to_vec()), (Some([1, 2, 1]), vec![5, 5]));
        let mut coloured = RgbImage::from_pixel(2, 1, Rgb([1, 2, 3]));
        coloured.put_pixel(1, 0, Rgb([4, 5, 6]));
        coloured.save(root.join("3.png")).unwrap();
        grey(&root.join("4.png"), 2, 1, 8);
        let table = read_folder(root, &pick()).unwrap();
        assert_eq!(table.image, Some([1, 2, 3]));
        assert_eq!(values(&table).row(0).to_vec(), [9; 6]);
        assert_eq!(values(&table).row(2).to_vec(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(values(&table).row(3).to_vec(), [8; 6]);
    }

    #[test]
    fn transparency_and_sixteen_bits_become_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        image::RgbaImage::from_pixel(1, 1, Rgba([0, 0, 0, 51])).save(root.join("1.png")).unwrap();
        ImageBuffer::from_pixel(1, 1, Luma([u16::MAX])).save(root.join("2.png")).unwrap();
        let table = read_folder(root, &pick()).unwrap();
        assert_eq!(values(&table).column(0).to_vec(), [204, 255]);
        assert!(table.notes[0].contains("laid on white: 1"));
    }

    #[test]
    fn sizes_that_differ_need_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        grey(&root.join("1.png"), 4, 6, 100);
        grey(&root.join("2.png"), 4, 6, 100);
        grey(&root.join("3.png"), 5, 6, 100);
        assert!(refused(root, &pick())
            .contains("6x4 (2 of them), 6x5 (1 of them); give one size, as in --image-size 28x28"));
        let table = read_folder(root, &Pick { image_size: Some([6, 5]), ..pick() }).unwrap();
        assert_eq!(table.image, Some([6, 5, 1]));
        assert!(values(&table).iter().all(|&value| value == 100));
        assert_eq!(table.notes, ["images that were resized to 6x5: 2 of 3"]);
        assert!(refused(root, &Pick { image_size: Some([0, 5]), ..pick() }).contains("0x5"));
    }

    #[test]
    fn large_images_are_made_small() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        grey(&root.join("1.png"), 200, 100, 1);
        grey(&root.join("2.png"), 400, 200, 2);
        let table = read_folder(root, &pick()).unwrap();
        assert_eq!((table.image, table.notes.len()), (Some([16, 32, 1]), 1));
        grey(&root.join("3.png"), 100, 100, 1);
        assert_eq!(read_folder(root, &pick()).unwrap().image, Some([32, 32, 1]));
        grey(&root.join("4.png"), 64, 64, 1);
        assert!(refused(root, &pick()).contains("--image-size"));
        assert_eq!([shrunk([65, 64]), shrunk([9000, 1])], [[32, 32], [32, 1]]);
    }

    #[test]
    fn broken_images_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(refused(root, &pick()).contains("holds no PNG"));
        assert!(refused(&root.join("none"), &pick()).contains("check its name"));
        for extension in ["png", "jpg"] {
            let path = root.join(format!("x.{extension}"));
            let noise = |x: u32, y: u32| Luma([(x * 37 + y * 101) as u8]);
            GrayImage::from_fn(20, 20, noise).save(&path).unwrap();
            let whole = fs::read(&path).unwrap();
            for cut in (0..whole.len() - 12).step_by(7) {
                fs::write(&path, &whole[..cut]).unwrap();
                let error = refused(root, &pick());
                assert!(error.contains(&format!("x.{extension}")), "{cut}: {error}");
            }
            fs::remove_file(&path).unwrap();
        }
        fs::write(root.join("text.png"), "no image at all").unwrap();
        assert!(refused(root, &pick()).contains("in spite of its name"));
    }

    #[test]
    fn a_huge_header_is_refused_before_it_is_allocated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        grey(&path, 1, 1, 0);
        let whole = fs::read(&path).unwrap();
        for (side, part) in [(100_000_u32, "larger than"), (16_000, "is 16000x16000")] {
            let mut bytes = whole.clone();
            bytes[16..20].copy_from_slice(&side.to_be_bytes());
            bytes[20..24].copy_from_slice(&side.to_be_bytes());
            let mut crc = flate2::Crc::new();
            crc.update(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
            fs::write(&path, bytes).unwrap();
            let error = refused(folder.path(), &pick());
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_claim_beyond_the_memory_is_refused_before_it_is_allocated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        GrayImage::new(6000, 6000).save(&path).unwrap(); // 36 MB of zeros, in some kilobytes
        let error = read_folder(folder.path(), &pick()).unwrap_err();
        assert!(error.to_string().contains("x.png"), "{error}");
        assert!(read_folder(folder.path(), &Pick { most_bytes: 64 << 20, ..pick() }).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        grey(&folder.path().join("1.png"), 40, 40, 0);
        let few = Pick { most_bytes: 2000, ..pick() };
        assert!(read_folder(folder.path(), &few).is_ok());
        RgbImage::from_pixel(40, 40, Rgb([1, 2, 3])).save(folder.path().join("1.png")).unwrap();
        assert!(matches!(read_folder(folder.path(), &few), Err(Error::Memory(_))));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_once() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        grey(&root.join("a/1.png"), 2, 2, 1);
        grey(&folder.path().join("elsewhere/2.png"), 2, 2, 2);
        symlink(&root, root.join("a/loop")).unwrap();
        symlink(root.join("a"), root.join("again")).unwrap();
        symlink(folder.path().join("elsewhere"), root.join("b")).unwrap();
        let table = read_folder(&root, &pick()).unwrap();
        assert_eq!(table.ids, ["a/1.png", "b/2.png"]);
        assert_eq!(table.notes, ["links to folders that were read already, left out: 2"]);
        symlink("self.png", root.join("self.png")).unwrap();
        assert!(refused(&root, &pick()).contains("self.png"));
    }
}
