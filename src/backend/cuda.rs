//! CUDA graphs: work on a GPU that is recorded once and then started as a whole; and a kernel for dropout's random bits.
//!
//! A training step is some tens of kernels, each started by the processor; a small network's take less time to run than to
//! start. A graph starts them all at once. The C++ side, `cuda/graph.cpp`, is a library of its own, `libdec_cuda.so`, which
//! build.rs compiles where libtorch has CUDA and which is loaded when something of it is first wanted.
//!
//! That it compiles and links is `tests/cuda_graph.rs`; that recorded steps are the plain ones `gpu_tests.rs`. On one H200 they take
//! 0.4 to 0.75 of the time, with the same bits.
#![allow(unsafe_code)]

use std::env;
use std::ffi::{c_char, c_int, CStr};
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use tch::{Device, TchError, Tensor};
use torch_sys::C_tensor;

use super::shim::libtorch_version;
use crate::error::Result;

const LIBRARY: &str = "libdec_cuda.so";
/// Where build.rs put the library, if it compiled it.
const BUILT: Option<&str> = option_env!("DEC_CUDA_LIBRARY");

/// The C++ side's graph, seen only through a pointer.
#[repr(C)]
struct RawGraph {
    _private: [u8; 0],
}

/// The functions of `libdec_cuda.so`, which stays loaded. The contract is at the head of guard.h.
#[derive(Debug)]
struct Functions {
    free: unsafe extern "C" fn(*mut c_char),
    new: unsafe extern "C" fn(c_int, *mut *mut RawGraph) -> *mut c_char,
    delete: unsafe extern "C" fn(*mut RawGraph),
    begin: unsafe extern "C" fn(*mut RawGraph) -> *mut c_char,
    end: unsafe extern "C" fn(*mut RawGraph) -> *mut c_char,
    replay: unsafe extern "C" fn(*mut RawGraph) -> *mut c_char,
    drawn: unsafe extern "C" fn(*const C_tensor, i64, *const C_tensor, i64, *mut *mut C_tensor) -> *mut c_char,
}

impl Functions {
    /// Takes over the message that a function of the library returned; null is success.
    ///
    /// # Safety
    ///
    /// `message` is what a function of this library has just returned, and is not used again.
    unsafe fn check(&self, message: *mut c_char) -> Result<()> {
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: not null, so by the contract a NUL-terminated string that is ours to read and then to free.
        let text = unsafe {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            (self.free)(message);
            text
        };
        Err(TchError::Torch(text).into())
    }
}

/// Recorded work on one GPU.
#[derive(Debug)]
pub struct Graph {
    functions: &'static Functions,
    raw: NonNull<RawGraph>,
}

impl Graph {
    /// Records what `work` has libtorch do on the GPU `device`. Nothing of it is done yet: [`Graph::replay`] does it.
    ///
    /// What `work` decides on the processor is decided now, for every replay. Before the first capture it has to be run two or
    /// three times in the ordinary way, so that libraries set themselves up; it may not copy results to the processor or wait
    /// for the GPU. Tensors that it reads or writes and that were made outside must be kept as long as the graph: a replay
    /// goes to the same places in the GPU's memory, whatever is there by then. Tensors made inside belong to the graph.
    ///
    /// `None`, and a warning that names the remedy the first time, where there is no `libdec_cuda.so` that can be used, and for
    /// a device that is no GPU (without a warning); `work` is not called then.
    ///
    /// # Errors
    ///
    /// `work`'s own, and [`crate::Error::Torch`] if it did something that cannot be recorded or CUDA fails.
    ///
    /// ```
    /// use dec::backend::cuda::Graph;
    /// let graph = Graph::capture(tch::Device::Cpu, || unreachable!())?;
    /// assert!(graph.is_none());
    /// # Ok::<(), dec::Error>(())
    /// ```
    pub fn capture(device: Device, work: impl FnOnce() -> Result<()>) -> Result<Option<Self>> {
        let Device::Cuda(index) = device else { return Ok(None) };
        let Some(functions) = functions() else { return Ok(None) };
        let index = c_int::try_from(index).map_err(|_| TchError::Torch(format!("there is no GPU {index}")))?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a valid place for one pointer.
        unsafe { functions.check((functions.new)(index, &mut raw)) }?;
        let raw = NonNull::new(raw).ok_or_else(|| TchError::Torch("no graph was made".to_owned()))?;
        let graph = Self { functions, raw };
        // SAFETY: `raw` is the live graph just made, and not recording.
        unsafe { functions.check((functions.begin)(raw.as_ptr())) }?;
        let recording = Recording(Some(&graph));
        let worked = work();
        let ended = recording.end();
        worked?; // it says more than what the broken recording has to say
        ended?;
        Ok(Some(graph))
    }

    /// Starts the recorded work, behind what was started before it, and does not wait for its end.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Torch`] if CUDA fails.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: `raw` is this value's own live graph, whose recording has ended without an error.
        unsafe { self.functions.check((self.functions.replay)(self.raw.as_ptr())) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `new`, belongs to this value alone and is not used after.
        unsafe { (self.functions.delete)(self.raw.as_ptr()) }
    }
}

/// A recording that is going on; it ends even if the work panics, as tch's operations do.
struct Recording<'a>(Option<&'a Graph>);

impl Recording<'_> {
    fn end(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        let Some(graph) = self.0.take() else { return Ok(()) };
        // SAFETY: `raw` is a live graph that is recording; it ends once, since `take` leaves nothing for a second time.
        unsafe { graph.functions.check((graph.functions.end)(graph.raw.as_ptr())) }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::debug!("the recording of a CUDA graph ends: {error}");
        }
    }
}

/// 32 random bits for each of `places` (int64, counted from the first row here), as [`super::dense_generic`] says it, by one kernel. `None` off the
/// GPU, and where there is no `libdec_cuda.so` or CUDA's compiler does not take the kernel: a warning says so once.
pub(super) fn drawn(places: &Tensor, width: i64, key: &Tensor, site: u32) -> Result<Option<Tensor>> {
    static REFUSED: OnceLock<()> = OnceLock::new();
    if !places.device().is_cuda() || REFUSED.get().is_some() {
        return Ok(None);
    }
    let Some(functions) = functions() else { return Ok(None) };
    let mut bits = ptr::null_mut();
    // SAFETY: two live tensors, which libtorch reads and whose shapes it checks, and a valid place for one pointer.
    let done =
        unsafe { functions.check((functions.drawn)(places.as_ptr(), width, key.as_ptr(), i64::from(site), &mut bits)) };
    match done {
        // SAFETY: without an error it is a new tensor, which nobody else has.
        Ok(()) => Ok(Some(unsafe { Tensor::from_ptr(bits) })),
        Err(error) => {
            if REFUSED.set(()).is_ok() {
                tracing::warn!("what is drawn at random takes longer: {error}");
            }
            Ok(None)
        }
    }
}

/// The library's functions, looked for once; what is wrong is said once.
fn functions() -> Option<&'static Functions> {
    static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
    let found = FUNCTIONS.get_or_init(|| match load() {
        Ok(functions) => Some(functions),
        Err(why) => {
            tracing::warn!("no CUDA graphs, and what is drawn at random takes longer: {why}. To mend it: scripts/setup --cuda, then cargo build --release");
            None
        }
    });
    found.as_ref()
}

/// Where the library may be: where it was built, beside the program, wherever the loader looks.
fn places() -> Vec<PathBuf> {
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join(LIBRARY)));
    let files = BUILT.map(PathBuf::from).into_iter().chain(beside).filter(|path| path.exists());
    files.chain([PathBuf::from(LIBRARY)]).collect()
}

#[cfg(unix)]
fn load() -> std::result::Result<Functions, String> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    let mut problems = Vec::new();
    for place in places() {
        // SAFETY: the library's initialisers are those of libtorch's headers, made to run when a library is loaded;
        // libtorch_cuda, which it needs, is loaded where there is a CUDA device to capture on.
        let library = match unsafe { Library::open(Some(&place), RTLD_NOW | RTLD_LOCAL) } {
            Ok(library) => library,
            Err(error) => {
                problems.push(super::device::loader_message(&error));
                continue;
            }
        };
        // SAFETY: graph.cpp declares each function with the type that the field has; this holds for every library of this
        // name that was compiled against our version of libtorch, which is looked at first.
        let found = unsafe { look_up(&library) };
        std::mem::forget(library); // the functions are used until the process ends
        match found {
            Ok(functions) => return Ok(functions),
            Err(why) => problems.push(format!("{}: {why}", place.display())),
        }
    }
    Err(problems.join("; "))
}

#[cfg(not(unix))]
fn load() -> std::result::Result<Functions, String> {
    Err("they are supported on Linux only".to_owned())
}

/// # Safety
///
/// `library` has the functions of graph.cpp, with their types, if it has functions of these names.
#[cfg(unix)]
unsafe fn look_up(library: &libloading::os::unix::Library) -> std::result::Result<Functions, String> {
    // SAFETY: by this function's own contract `T` is the type of the function of that name.
    unsafe fn get<T: Copy>(library: &libloading::os::unix::Library, name: &str) -> std::result::Result<T, String> {
        unsafe { library.get::<T>(name.as_bytes()) }.map(|symbol| *symbol).map_err(|error| error.to_string())
    }
    // SAFETY: as above; the version is a string literal of the library's, which is never unloaded.
    unsafe {
        let version = get::<unsafe extern "C" fn() -> *const c_char>(library, "dec_cuda_libtorch_version")?;
        let version = CStr::from_ptr(version()).to_string_lossy();
        if version != libtorch_version() {
            return Err(format!("made for libtorch {version}, not {}", libtorch_version()));
        }
        Ok(Functions {
            free: get(library, "dec_cuda_free")?,
            new: get(library, "dec_cuda_graph_new")?,
            delete: get(library, "dec_cuda_graph_delete")?,
            begin: get(library, "dec_cuda_graph_begin")?,
            end: get(library, "dec_cuda_graph_end")?,
            replay: get(library, "dec_cuda_graph_replay")?,
            drawn: get(library, "dec_cuda_drawn")?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_cpu_has_no_graphs() {
        let graph = Graph::capture(Device::Cpu, || panic!("there is nothing to record it with")).unwrap();
        assert!(graph.is_none());
    }

    #[test]
    fn a_library_that_is_not_there_is_no_error() {
        if BUILT.is_none() {
            assert!(load().unwrap_err().contains(LIBRARY));
            assert!(functions().is_none());
        }
    }
}
