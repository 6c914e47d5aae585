use serde_json::json;

use super::*;

fn read_members(value: Value) -> (Option<Members<String>>, Vec<String>) {
    let mut misfits = Misfits::default();
    let read = Members::read(value, &Pointer::default().child("m"), &mut misfits);
    (read, misfits.0.iter().map(ToString::to_string).collect())
}

#[test]
fn members_are_read_by_name() {
    let (read, misfits) = read_members(json!({ "b": "2", "a/b": "1" }));
    let expected = [("a/b", "1"), ("b", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(read.expect("an object").0, expected);
    assert_eq!(misfits, Vec::<String>::new());
    let (read, _) = read_members(json!({}));
    assert!(read.expect("an object").0.is_empty());
}

#[test]
fn a_member_that_does_not_fit_hides_no_other() {
    let (read, misfits) = read_members(json!({ "a/b": 1, "b": "2", "c": [] }));
    assert_eq!(read.expect("an object").0, [("b".to_owned(), "2".to_owned())]);
    assert_eq!(
        misfits,
        [
            "/m/a~1b: found a number, accepted: a string",
            "/m/c: found a list, accepted: a string"
        ]
    );
}

#[test]
fn members_stand_in_an_object() {
    let (read, misfits) = read_members(json!(["a"]));
    assert!(read.is_none());
    assert_eq!(misfits, ["/m: found a list, accepted: an object"]);
}

#[test]
fn the_number_of_members_is_bounded() {
    let object = |count: usize| Value::Object((0..count).map(|name| (name.to_string(), json!("x"))).collect());
    let (read, misfits) = read_members(object(MAX_MEMBERS));
    assert_eq!((read.expect("an object").0.len(), misfits.len()), (MAX_MEMBERS, 0));
    let (read, misfits) = read_members(object(MAX_MEMBERS + 1));
    assert!(read.is_none());
    assert_eq!(misfits, ["/m: found 4097 members, accepted: at most 4096"]);
}
