//! The functions of `wasi_snapshot_preview1` that a Proxy-Wasm host has, by hand: nothing of the
//! machine that runs the test shows through.

use wasmtime::{Caller, Linker};

use crate::abi::memory::{Call, read, write, write_u32, write_u64};
use crate::abi::{Fault, Unmodelled};
use crate::log::Level;
use crate::worker::Guest;

const SUCCESS: u32 = 0;
const BAD_FILE: u32 = 8;
const FAULT: u32 = 21;
const INVALID: u32 = 28;
const NOT_SUPPORTED: u32 = 58;

const MODULE: &str = "wasi_snapshot_preview1";

/// The most that Envoy's random source gives at once.
const MAX_RANDOM: u32 = 64 * 1024;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "environ_sizes_get", |mut c: Caller<'_, Guest>, count, size| {
        let variables = environment(&c);
        let bytes = variables.iter().map(Vec::len).sum::<usize>();
        errno(sizes(&mut c, count, size, variables.len(), bytes))
    })?;
    linker.func_wrap(MODULE, "environ_get", |mut c: Caller<'_, Guest>, list, text| {
        errno(environ(&mut c, list, text))
    })?;
    linker.func_wrap(MODULE, "args_sizes_get", |mut c: Caller<'_, Guest>, count, size| {
        errno(sizes(&mut c, count, size, 0, 0))
    })?;
    linker.func_wrap(MODULE, "args_get", |_: Caller<'_, Guest>, _list: u32, _text: u32| {
        SUCCESS
    })?;
    linker.func_wrap(
        MODULE,
        "random_get",
        |mut c: Caller<'_, Guest>, address, length: u32| {
            if length > MAX_RANDOM {
                return Ok(INVALID);
            }
            let bytes: Vec<u8> = (0..length).map(|_| random_byte(c.data_mut())).collect();
            errno(write(&mut c, address, &bytes))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |mut c: Caller<'_, Guest>, clock: u32, _precision: u64, address: u32| {
            let now = {
                let node = c.data().node.lock();
                match clock {
                    0 => node.clock.realtime_nanos(),
                    1 => node.clock.monotonic_nanos(),
                    _ => return Ok(NOT_SUPPORTED),
                }
            };
            errno(write_u64(&mut c, address, now))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut c: Caller<'_, Guest>, file: u32, list: u32, count: u32, written: u32| match file {
            1 => errno(print(&mut c, Level::Info, list, count, written)),
            2 => errno(print(&mut c, Level::Error, list, count, written)),
            _ => Ok(BAD_FILE),
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_get",
        |_: Caller<'_, Guest>, _file: u32, _out: u32| BAD_FILE,
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_get",
        |_: Caller<'_, Guest>, _file: u32, _out: u32| BAD_FILE,
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_dir_name",
        |_: Caller<'_, Guest>, _file: u32, _path: u32, _length: u32| BAD_FILE,
    )?;
    linker.func_wrap(MODULE, "fd_close", |_: Caller<'_, Guest>, _file: u32| BAD_FILE)?;
    linker.func_wrap(
        MODULE,
        "fd_read",
        |_: Caller<'_, Guest>, _file: u32, _list: u32, _count: u32, _read: u32| BAD_FILE,
    )?;
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |_: Caller<'_, Guest>, _file: u32, _offset: u64, _whence: u32, _out: u32| BAD_FILE,
    )?;
    linker.func_wrap(MODULE, "sched_yield", |_: Caller<'_, Guest>| SUCCESS)?;
    linker.func_wrap(
        MODULE,
        "poll_oneoff",
        |_: Caller<'_, Guest>, _in: u32, _out: u32, _count: u32, _events: u32| {
            Err::<u32, _>(wasmtime::Error::from(Unmodelled("poll_oneoff (a guest sleeps)".into())))
        },
    )?;
    linker.func_wrap(MODULE, "proc_exit", |_: Caller<'_, Guest>, code: u32| {
        Err::<(), _>(wasmtime::Error::msg(format!("proc_exit({code})")))
    })?;
    Ok(())
}

fn errno(result: Result<(), Fault>) -> wasmtime::Result<u32> {
    match result {
        Ok(()) => Ok(SUCCESS),
        Err(Fault::Status(_)) => Ok(FAULT),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// The environment as NUL-terminated `name=value` strings.
fn environment(call: &Call<'_>) -> Vec<Vec<u8>> {
    let node = call.data().node.lock();
    let variables = node.options.environment.iter();
    variables
        .map(|(name, value)| format!("{name}={value}\0").into_bytes())
        .collect()
}

fn sizes(call: &mut Call<'_>, return_count: u32, return_size: u32, count: usize, size: usize) -> Result<(), Fault> {
    write_u32(call, return_count, count.try_into().unwrap_or(u32::MAX))?;
    write_u32(call, return_size, size.try_into().unwrap_or(u32::MAX))
}

fn environ(call: &mut Call<'_>, mut list: u32, mut text: u32) -> Result<(), Fault> {
    for variable in environment(call) {
        write_u32(call, list, text)?;
        write(call, text, &variable)?;
        list = list.saturating_add(4);
        text = text.saturating_add(variable.len().try_into().unwrap_or(u32::MAX));
    }
    Ok(())
}

/// What a guest prints becomes log lines.
fn print(call: &mut Call<'_>, level: Level, list: u32, count: u32, written: u32) -> Result<(), Fault> {
    let mut text = Vec::new();
    let vectors = read(call, list, count.saturating_mul(8))?;
    for vector in vectors.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *vector;
        let (address, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        text.extend(read(call, address, length)?);
    }
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        call.data().log(level, line);
    }
    write_u32(call, written, text.len().try_into().unwrap_or(u32::MAX))
}

/// SplitMix64, one byte per step: reproducible, and different in every VM.
fn random_byte(guest: &mut Guest) -> u8 {
    guest.random_state = guest.random_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = guest.random_state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).to_le_bytes()[0]
}
