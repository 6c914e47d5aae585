//! What holds for every value, against a second reading of the grammar.

use oracle::bearer;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// The same cases in every run.
fn seeded() -> ProptestConfig {
    ProptestConfig {
        cases: 4_096,
        rng_seed: RngSeed::Fixed(0xbea4e4),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The credential of a request with these lines of the header among others.
fn of<'a>(name: &'a [u8], lines: &[&'a [u8]]) -> Option<Vec<u8>> {
    let mut fields = vec![(&b":method"[..], &b"GET"[..]), (b"x-authorization", b"Bearer other")];
    fields.extend(lines.iter().map(|value| (name, *value)));
    fields.push((b"proxy-authorization", b"Bearer other"));
    let header = HeaderName::parse("authorization").unwrap();
    credential(&RequestHead::new(&fields), &header).map(<[u8]>::to_vec)
}

/// Values near the grammar: its pieces in any order, then bytes of any kind.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        &b"Bearer"[..],
        b"Bearer ",
        b"bearer ",
        b"bEARER",
        b"Beare",
        b"Basic ",
        b" ",
        b"  ",
        b"\t",
        b",",
        b", ",
        b"=",
        b"==",
        b"a",
        b"eyJh.eyJp.c2ln",
        b"-._~+/",
        b"\x00",
        b"\x7f",
        b"\xff",
        b"\"",
        b"\r\n",
        b"%",
        b"B",
        b"%20",
    ]);
    prop_oneof![
        2 => prop::collection::vec(pieces.clone(), 0..6).prop_map(|pieces| pieces.concat()),
        2 => prop::collection::vec(pieces, 0..4).prop_map(|pieces| [b"Bearer ", &pieces.concat()[..]].concat()),
        1 => ("(?i)bearer", " {1,3}", "[a-zA-Z0-9._~+/-]{1,20}={0,3}").prop_map(|(a, b, c)| (a + &b + &c).into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..16),
        1 => prop::collection::vec(any::<u8>(), 0..8).prop_map(|tail| [b"Bearer ", &tail[..]].concat()),
    ]
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn a_credential_is_exactly_what_the_grammar_says(value in any_value()) {
        let expected = bearer::credential(&[&value]).map(<[u8]>::to_vec);
        prop_assert_eq!(of(b"authorization", &[&value]), expected, "{}", value.escape_ascii());
    }

    #[test]
    fn a_credential_by_the_grammar_is_taken_as_it_stands(
        scheme in "(?i)bearer",
        spaces in " {1,9}",
        token in "[a-zA-Z0-9._~+/-]{1,60}={0,4}",
        name in "(?i)authorization",
    ) {
        let value = format!("{scheme}{spaces}{token}");
        prop_assert_eq!(of(name.as_bytes(), &[value.as_bytes()]), Some(token.into_bytes()));
    }

    #[test]
    fn several_lines_are_none_whatever_they_say(
        lines in prop::collection::vec(any_value(), 2..4),
        good in 0_usize..4,
    ) {
        let mut lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        if let Some(line) = lines.get_mut(good) {
            *line = b"Bearer a.b.c";
        }
        prop_assert_eq!(of(b"authorization", &lines), None);
        // Envoy joins lines of one name before any filter sees them.
        let joined = lines.join(&b","[..]);
        prop_assert_eq!(of(b"authorization", &[&joined]), None, "{}", joined.escape_ascii());
    }

    #[test]
    fn one_foreign_byte_anywhere_makes_a_credential_none(
        at in 0_usize..20,
        byte in any::<u8>().prop_filter("no byte of a token", |b| {
            !b.is_ascii_alphanumeric() && !b"-._~+/= ".contains(b)
        }),
    ) {
        let mut value = b"Bearer aaa.bbb.cccc=".to_vec();
        value.insert(at.min(value.len()), byte);
        prop_assert_eq!(of(b"authorization", &[&value]), None, "{}", value.escape_ascii());
    }
}
