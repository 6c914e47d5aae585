//! Field lines of the header, one per line of the input: what is a credential, and which.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_policy::authn::credential;
use tenant_policy::request::{Field, RequestHead};
use tenant_policy::scope::HeaderName;

fuzz_target!(|input: &[u8]| {
    let lines: Vec<&[u8]> = if input.is_empty() {
        Vec::new()
    } else {
        input.split(|byte| *byte == b'\n').collect()
    };
    let mut fields: Vec<Field<'_>> = lines.iter().map(|value| (&b"Authorization"[..], *value)).collect();
    fields.insert(0, (b"x-authorization", b"Bearer other"));
    let header = HeaderName::parse("authorization").expect("a name");
    let found = credential(&RequestHead::new(&fields), &header);
    assert_eq!(found, oracle::bearer::credential(&lines), "the grammar says otherwise");
});
