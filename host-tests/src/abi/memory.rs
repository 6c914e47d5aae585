//! Reading and writing the guest's memory.

use wasmtime::Caller;

use crate::abi::{Fault, Status};
use crate::worker::Guest;

pub(crate) type Call<'a> = Caller<'a, Guest>;

/// A copy of `length` bytes at `address`.
pub(crate) fn read(call: &Call<'_>, address: u32, length: u32) -> Result<Vec<u8>, Fault> {
    let memory = call.data().memory.ok_or(Status::InvalidMemoryAccess)?;
    let start = address as usize;
    let end = start.checked_add(length as usize).ok_or(Status::InvalidMemoryAccess)?;
    let bytes = memory.data(call).get(start..end).ok_or(Status::InvalidMemoryAccess)?;
    Ok(bytes.to_vec())
}

/// Writes bytes at `address`.
pub(crate) fn write(call: &mut Call<'_>, address: u32, bytes: &[u8]) -> Result<(), Fault> {
    let memory = call.data().memory.ok_or(Status::InvalidMemoryAccess)?;
    memory
        .write(call, address as usize, bytes)
        .map_err(|_| Fault::Status(Status::InvalidMemoryAccess))
}

pub(crate) fn write_u32(call: &mut Call<'_>, address: u32, value: u32) -> Result<(), Fault> {
    write(call, address, &value.to_le_bytes())
}

pub(crate) fn write_u64(call: &mut Call<'_>, address: u32, value: u64) -> Result<(), Fault> {
    write(call, address, &value.to_le_bytes())
}

/// Hands bytes to the guest in memory that the guest allocates. Nothing is allocated for none.
pub(crate) fn hand_over(
    call: &mut Call<'_>,
    bytes: &[u8],
    return_address: u32,
    return_length: u32,
) -> Result<(), Fault> {
    let length = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
    let mut address = 0;
    if length > 0 {
        let allocate = call.data().allocate.clone().ok_or(Status::InvalidMemoryAccess)?;
        address = allocate.call(&mut *call, length).map_err(Fault::Trap)?;
        write(call, address, bytes)?;
    }
    write_u32(call, return_address, address)?;
    write_u32(call, return_length, length)
}
