//! The machine as a configuration asks for it, and as it was afterwards.

use tch::Device;

use crate::backend::{self, device_name, precision, threads, waiting};
use crate::config::{Config, Precision};
use crate::error::Result;

/// Sets up the machine as `config` asks: the device, which it returns, threads and precision. Call it before anything else of
/// libtorch ([`backend::select`]).
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) for a device that is not there, or a libtorch failure.
pub fn set_up_machine(config: &Config) -> Result<Device> {
    let device = backend::select(config.device.parse()?)?;
    set_up(config, device)?;
    waiting::adapt();
    Ok(device)
}

/// [`set_up_machine`] until the second value is dropped: a library leaves threads and precision as it found them.
pub(super) fn borrow_machine(config: &Config) -> Result<(Device, AsItWas)> {
    let device = backend::select(config.device.parse()?)?;
    let before = AsItWas { threads: threads::count(), tf32: precision::tf32_allowed().ok() };
    set_up(config, device)?;
    Ok((device, before))
}

fn set_up(config: &Config, device: Device) -> Result<()> {
    threads::set(config.threads.given())?;
    precision::allow_tf32(config.tf32)?;
    if config.tf32 && !device.is_cuda() {
        tracing::warn!("tf32 is for GPUs and does nothing on this device, {}", device_name(device));
    }
    if config.precision == Precision::Bf16 && !precision::multiplies_bf16(device) {
        tracing::warn!(
            "precision: this processor does not multiply bf16 (AVX512-BF16, AMX), so that products are in float32"
        );
    }
    Ok(())
}

/// Threads and precision to go back to.
#[derive(Debug)]
pub(super) struct AsItWas {
    threads: usize,
    /// `None` where libtorch's two flags disagreed.
    tf32: Option<bool>,
}

impl Drop for AsItWas {
    fn drop(&mut self) {
        let same = threads::count() == self.threads;
        let threads = if same { Ok(()) } else { threads::set(Some(self.threads)).map(|_| ()) };
        let precision = self.tf32.map_or(Ok(()), precision::allow_tf32);
        if let Err(problem) = threads.and(precision) {
            tracing::warn!("threads or precision are not set back: {problem}");
        }
    }
}
