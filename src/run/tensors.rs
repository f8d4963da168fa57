//! Named tensors as safetensors, in memory.

use std::collections::BTreeMap;

use safetensors::tensor::{serialize, Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// The bytes of a safetensors file; names and values alone decide them.
///
/// # Errors
/// A libtorch failure, or a tensor of a kind that is not saved.
pub fn write(named: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let plain = named.iter().map(|(name, tensor)| Ok((name, bytes_of(tensor)?))).collect::<Result<Vec<_>>>()?;
    let views = plain.iter().map(|(name, (kind, shape, bytes))| {
        let view = TensorView::new(*kind, shape.clone(), bytes);
        Ok(((*name).clone(), view.map_err(|e| Error::Training(format!("{name} cannot be saved: {e}")))?))
    });
    let views: Vec<(String, TensorView)> = views.collect::<Result<_>>()?;
    serialize(views, &None).map_err(|e| Error::Training(format!("tensors cannot be saved: {e}")))
}

fn bytes_of(tensor: &Tensor) -> Result<(Dtype, Vec<usize>, Vec<u8>)> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let kind = match tensor.f_kind()? {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Int => Dtype::I32,
        Kind::Int64 => Dtype::I64,
        other => return Err(Error::Training(format!("tensors of kind {other:?} are not saved"))),
    };
    let count = tensor.numel();
    let mut bytes = vec![0; count * tensor.f_kind()?.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    let shape = tensor.size().iter().map(|&n| n as usize).collect();
    Ok((kind, shape, bytes))
}

/// The tensors of a safetensors file, on `device`.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read(bytes: &[u8], device: Device) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("its tensors cannot be read: {e}"))?;
    let tensor = |(name, view): (String, TensorView)| {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::I32 => Kind::Int,
            Dtype::I64 => Kind::Int64,
            other => return Err(format!("its tensor {name} is of type {other:?}")),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let made = Tensor::f_from_data_size(view.data(), &shape, kind).and_then(|tensor| tensor.f_to_device(device));
        Ok((name.clone(), made.map_err(|e| format!("its tensor {name} cannot be read: {e}"))?))
    };
    file.tensors().into_iter().map(tensor).collect()
}
