//! Which device to compute on, and libtorch's CUDA half, loaded only when a GPU is wanted.
//!
//! The program is linked against libtorch's CPU half alone, so that one binary starts quickly everywhere. CUDA support
//! registers itself when `libtorch_cuda.so` is loaded, which has to happen before libtorch is first asked about CUDA:
//! its answer is kept for the life of the process. Hence [`select`] comes first in a program.
#![allow(unsafe_code)]

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use tch::Device;

use super::ranks;
use crate::error::{Error, Result};

/// NVIDIA's driver library: there where, and only where, a driver is installed.
const DRIVER: &str = "libcuda.so.1";
/// libtorch's CUDA half.
const TORCH_CUDA: &str = "libtorch_cuda.so";
/// Where the libtorch that this program was built against keeps its libraries (set by build.rs).
const LIBTORCH_LIB: &str = env!("DEC_LIBTORCH_LIB");

/// What the user asked for: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceRequest {
    /// A GPU if there is a usable one, else the CPU. The first; of processes that a launcher has started on a machine each has its own, as far as
    /// they go.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// GPU number N, counted from 0 (`None`: the one that `Auto` would take); nothing else will do.
    Cuda(Option<usize>),
}

impl FromStr for DeviceRequest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let index = |digits: &str| {
            // parse() would take "+1" too
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| plain).map(usize::from)
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            _ => match text.strip_prefix("cuda:").and_then(index) {
                Some(index) => Ok(Self::Cuda(Some(index))),
                None => Err(Error::Device(format!(
                    "device \"{text}\" is unknown: it takes auto, cpu, cuda or cuda:N with N a GPU's number from 0"
                ))),
            },
        }
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

/// A device as `--device` takes it: `cpu`, `cuda:0`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The device for `request`, with libtorch's CUDA half loaded if that is a GPU or could have been.
///
/// Call it before anything else of libtorch: once libtorch has been asked about CUDA without that half, there is none
/// for the rest of the process. `auto` falls back to the CPU and says why in the log (a warning where there is a driver
/// that this libtorch cannot use, else at debug level).
///
/// # Errors
///
/// [`Error::Device`] if a GPU is asked for and cannot be had; it lists what was looked for and what was found.
pub fn select(request: DeviceRequest) -> Result<Device> {
    if request == DeviceRequest::Cpu {
        return Ok(Device::Cpu);
    }
    let probe = probe();
    tracing::debug!("looking for a GPU: {}", probe.findings().join("; "));
    match decide(request, &probe, ranks::launched_here()) {
        Decision::Use(device) => Ok(device),
        Decision::FallBack { reason, warn: true } => {
            tracing::warn!("computing on the CPU: {reason}");
            Ok(Device::Cpu)
        }
        Decision::FallBack { reason, warn: false } => {
            tracing::debug!("computing on the CPU: {reason}");
            Ok(Device::Cpu)
        }
        Decision::Refuse(message) => Err(Error::Device(message)),
    }
}

/// What came of loading a library.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Library {
    /// Not tried, because something before it was missing.
    NotTried,
    /// No such file; says where it was looked for.
    Missing(String),
    /// There, but the loader refused it; the loader's words.
    Unloadable(String),
    /// Loaded, for the rest of the process.
    Loaded,
}

/// What was found out about the machine, in the order of looking; [`decide`] needs nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Probe {
    driver: Library,
    torch_cuda: Library,
    /// GPUs that libtorch can use; `None` if it was not asked.
    devices: Option<usize>,
}

impl Probe {
    /// One line a step: what was looked for, what was found.
    fn findings(&self) -> Vec<String> {
        let library = |what: &str, state: &Library| match state {
            Library::NotTried => format!("{what}: not tried"),
            Library::Missing(places) => format!("{what}: not found ({places})"),
            Library::Unloadable(why) => format!("{what}: there, but it does not load ({why})"),
            Library::Loaded => format!("{what}: loaded"),
        };
        vec![
            library(&format!("NVIDIA driver, {DRIVER}"), &self.driver),
            library(&format!("CUDA half of libtorch, {TORCH_CUDA}"), &self.torch_cuda),
            match self.devices {
                None => "GPUs: not counted".to_owned(),
                Some(count) => format!("GPUs that libtorch can use: {count}"),
            },
        ]
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Use(Device),
    FallBack { reason: String, warn: bool },
    Refuse(String),
}

/// The whole policy: a pure function of what was asked for, of what was found, and of which process this is on its machine.
fn decide(request: DeviceRequest, probe: &Probe, process: usize) -> Decision {
    let count = probe.devices.unwrap_or(0);
    let wanted = match request {
        DeviceRequest::Cpu => return Decision::Use(Device::Cpu),
        DeviceRequest::Auto | DeviceRequest::Cuda(None) => process % count.max(1),
        DeviceRequest::Cuda(Some(index)) => index,
    };
    if wanted < count {
        return Decision::Use(Device::Cuda(wanted));
    }
    let (reason, remedy) = obstacle(probe);
    if request == DeviceRequest::Auto {
        // A driver with the CPU build of libtorch is a GPU left idle by the set-up. Where all is installed and there is
        // no GPU all the same, hiding it (CUDA_VISIBLE_DEVICES) may well be the user's intention.
        let warn = probe.driver == Library::Loaded && probe.torch_cuda != Library::Loaded;
        return Decision::FallBack { reason: format!("{reason}; {remedy}"), warn };
    }
    let mut message = format!("--device {request}: ");
    if count > 0 {
        message += &format!("there is no GPU {wanted}; {}", numbers(count));
    } else {
        message += &reason;
    }
    message += ". Looked for:";
    for finding in probe.findings() {
        message += &format!("\n  {finding}");
    }
    if count > 0 {
        message += "\nTake a GPU that is there, or use --device cpu.";
    } else {
        message += &format!("\nTo mend it: {remedy}. Or use --device cpu.");
    }
    Decision::Refuse(message)
}

/// The first thing that is in the way of using a GPU, and what to do about it.
fn obstacle(probe: &Probe) -> (String, &'static str) {
    match (&probe.driver, &probe.torch_cuda) {
        (Library::Missing(_) | Library::NotTried, _) => {
            ("no NVIDIA driver was found".to_owned(), "install NVIDIA's driver if the machine has a GPU of theirs")
        }
        (Library::Unloadable(why), _) => {
            (format!("the NVIDIA driver does not load ({why})"), "repair the installation of NVIDIA's driver")
        }
        (Library::Loaded, Library::Missing(_) | Library::NotTried) => (
            "there is an NVIDIA driver, but this libtorch is the build for the CPU only".to_owned(),
            "`scripts/setup --cuda` brings the CUDA build",
        ),
        (Library::Loaded, Library::Unloadable(why)) => (
            format!("there is an NVIDIA driver, but libtorch's CUDA half does not load ({why})"),
            "`scripts/setup --cuda` brings what it needs",
        ),
        (Library::Loaded, Library::Loaded) => (
            "libtorch finds no GPU that it can use".to_owned(),
            "look at `nvidia-smi`, CUDA_VISIBLE_DEVICES and whether the driver is recent enough for CUDA 13",
        ),
    }
}

/// Which GPU numbers there are.
fn numbers(count: usize) -> String {
    match count {
        1 => "the only one is cuda:0".to_owned(),
        _ => format!("there are cuda:0 to cuda:{}", count - 1),
    }
}

/// Looks, in order, for the driver, libtorch's CUDA half and GPUs; stops at what is missing.
fn probe() -> Probe {
    let mut probe = Probe { driver: load_driver(), torch_cuda: Library::NotTried, devices: None };
    if probe.driver == Library::Loaded {
        probe.torch_cuda = load_torch_cuda(Path::new(LIBTORCH_LIB));
    }
    // Without its CUDA half libtorch must not even be asked: it would remember the answer.
    if probe.torch_cuda == Library::Loaded {
        let available = tch::Cuda::is_available();
        probe.devices = Some(if available { usize::try_from(tch::Cuda::device_count()).unwrap_or(0) } else { 0 });
    }
    probe
}

#[cfg(target_os = "linux")]
fn load_driver() -> Library {
    match load(Path::new(DRIVER)) {
        Ok(()) => Library::Loaded,
        Err(why) if is_missing(&why, DRIVER) => Library::Missing("the loader's search path".to_owned()),
        Err(why) => Library::Unloadable(why),
    }
}

#[cfg(not(target_os = "linux"))]
fn load_driver() -> Library {
    Library::Missing("CUDA is supported on Linux only".to_owned())
}

/// Loads libtorch's CUDA half from `directory`, or else from wherever the loader finds one: a binary that was carried
/// to another machine has only LD_LIBRARY_PATH to go by.
fn load_torch_cuda(directory: &Path) -> Library {
    if is_loaded(TORCH_CUDA) {
        return Library::Loaded; // by Python's torch: a second copy would know nothing of the first
    }
    let path = directory.join(TORCH_CUDA);
    if path.exists() {
        return load(&path).map_or_else(Library::Unloadable, |()| Library::Loaded);
    }
    match load(Path::new(TORCH_CUDA)) {
        Ok(()) => Library::Loaded,
        Err(why) if is_missing(&why, TORCH_CUDA) => {
            Library::Missing(format!("{} and the loader's search path", directory.display()))
        }
        Err(why) => Library::Unloadable(why),
    }
}

/// Whether the loader's message says that the library itself, and not one that it needs, is not there.
fn is_missing(why: &str, library: &str) -> bool {
    why.starts_with(library) && why.contains("No such file")
}

/// Loads a library with its symbols open to all and leaves it loaded for good. The error is the loader's message.
#[cfg(unix)]
fn load(path: &Path) -> std::result::Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: loading runs the library's initialisers. NVIDIA's driver and libtorch are made to be loaded so, at any
    // time and from any thread; libtorch's registers its CUDA functions with libtorch_cpu, which is there because this
    // program is linked against it. No symbol is looked up here, and nothing is ever unloaded (see `forget`).
    match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            // libtorch keeps pointers into it: it stays until the process ends.
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => Err(loader_message(&error)),
    }
}

/// Whether a library of this name is in the process already.
#[cfg(target_os = "linux")]
fn is_loaded(name: &str) -> bool {
    use libloading::os::unix::{Library, RTLD_LAZY};
    const RTLD_NOLOAD: std::ffi::c_int = 4;
    // SAFETY: with RTLD_NOLOAD nothing is loaded and no initialiser runs.
    match unsafe { Library::open(Some(name), RTLD_LAZY | RTLD_NOLOAD) } {
        Ok(library) => {
            std::mem::forget(library); // it stays, as after `load`
            true
        }
        Err(_) => false,
    }
}

#[cfg(not(target_os = "linux"))]
fn is_loaded(_: &str) -> bool {
    false
}

#[cfg(not(unix))]
fn load(path: &Path) -> std::result::Result<(), String> {
    Err(format!("{}: loading CUDA is supported on Linux only", path.display()))
}

/// libloading's error without its own preamble: the innermost message.
#[cfg(unix)]
pub(super) fn loader_message(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { desc } => format!("{desc:?}").trim_matches('"').to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(devices: usize) -> Probe {
        Probe { driver: Library::Loaded, torch_cuda: Library::Loaded, devices: Some(devices) }
    }

    fn no_driver() -> Probe {
        Probe { driver: Library::Missing("here".to_owned()), torch_cuda: Library::NotTried, devices: None }
    }

    fn cpu_build() -> Probe {
        Probe { driver: Library::Loaded, torch_cuda: Library::Missing("/there/lib".to_owned()), devices: None }
    }

    fn refusal(request: DeviceRequest, probe: &Probe) -> String {
        match decide(request, probe, 0) {
            Decision::Refuse(message) => message,
            other => panic!("{request} was not refused: {other:?}"),
        }
    }

    #[test]
    fn requests_round_trip() {
        for text in ["auto", "cpu", "cuda", "cuda:0", "cuda:17"] {
            assert_eq!(text.parse::<DeviceRequest>().unwrap().to_string(), text);
        }
        assert_eq!(DeviceRequest::default(), DeviceRequest::Auto);
    }

    #[test]
    fn other_requests_say_what_it_takes() {
        for text in ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:70000", "cuda:1 ", "cpu:0"] {
            let error = text.parse::<DeviceRequest>().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("auto, cpu, cuda or cuda:N"), "{error}");
        }
    }

    #[test]
    fn gpus_that_are_there_are_used() {
        assert_eq!(decide(DeviceRequest::Auto, &found(2), 0), Decision::Use(Device::Cuda(0)));
        assert_eq!(decide(DeviceRequest::Cuda(None), &found(2), 0), Decision::Use(Device::Cuda(0)));
        assert_eq!(decide(DeviceRequest::Cuda(Some(1)), &found(2), 0), Decision::Use(Device::Cuda(1)));
        assert_eq!(decide(DeviceRequest::Cpu, &found(2), 0), Decision::Use(Device::Cpu));
        let of = |process| decide(DeviceRequest::Cuda(None), &found(2), process);
        assert_eq!([1, 2].map(of), [1, 0].map(|gpu| Decision::Use(Device::Cuda(gpu))), "each process has its own");
        assert_eq!(
            decide(DeviceRequest::Cuda(Some(0)), &found(2), 1),
            Decision::Use(Device::Cuda(0)),
            "but as it is told"
        );
    }

    #[test]
    fn auto_falls_back_and_warns_only_of_a_gpu_left_idle() {
        let fall_back = |probe: &Probe| match decide(DeviceRequest::Auto, probe, 0) {
            Decision::FallBack { reason, warn } => (reason, warn),
            other => panic!("{other:?}"),
        };
        assert!(!fall_back(&no_driver()).1);
        assert!(!fall_back(&found(0)).1);
        let (reason, warn) = fall_back(&cpu_build());
        assert!(warn && reason.contains("scripts/setup --cuda"), "{reason}");
        let broken = Probe { torch_cuda: Library::Unloadable("libcudart gone".to_owned()), ..cpu_build() };
        let (reason, warn) = fall_back(&broken);
        assert!(warn && reason.contains("libcudart gone"), "{reason}");
    }

    #[test]
    fn a_refusal_lists_every_step() {
        let message = refusal(DeviceRequest::Cuda(None), &no_driver());
        for part in ["--device cuda:", DRIVER, "not found (here)", TORCH_CUDA, "not tried", "--device cpu"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        let message = refusal(DeviceRequest::Cuda(Some(0)), &cpu_build());
        for part in ["--device cuda:0:", "libcuda.so.1: loaded", "/there/lib", "scripts/setup --cuda", "--device cpu"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        let message = refusal(DeviceRequest::Cuda(None), &found(0));
        assert!(message.contains("can use: 0") && message.contains("nvidia-smi"), "{message}");
    }

    #[test]
    fn a_gpu_number_too_high_names_those_there_are() {
        assert!(refusal(DeviceRequest::Cuda(Some(1)), &found(1)).contains("the only one is cuda:0"));
        assert!(refusal(DeviceRequest::Cuda(Some(9)), &found(4)).contains("cuda:0 to cuda:3"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_missing_library_is_told_from_a_broken_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(TORCH_CUDA);
        std::fs::write(&path, b"not a library").unwrap();
        let Library::Unloadable(why) = load_torch_cuda(directory.path()) else { panic!("a text file was loaded") };
        assert!(why.contains(TORCH_CUDA), "{why}");

        let why = load(Path::new("libdec_no_such_library.so.1")).unwrap_err();
        assert!(is_missing(&why, "libdec_no_such_library.so.1"), "{why}");
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(select(DeviceRequest::Cpu).unwrap(), Device::Cpu);
    }
}
