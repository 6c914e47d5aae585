use super::*;
use crate::world::World;

fn log(sets: u32, world: &World) -> Log {
    let mut log = Log::new(sets);
    assert_eq!(
        log.listen(world),
        News::Everything,
        "whatever it held before is not to be trusted"
    );
    log.listen(world);
    log
}

fn named(names: &[String]) -> News {
    News::Tenants(names.to_vec())
}

fn names(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("t{n}")).collect()
}

fn publish(log: &Log, names: &[String], world: &World) -> Published {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    log.publish(&names, log.layout().unwrap(), world).unwrap()
}

fn worlds() -> [World; 2] {
    let mute = World::default();
    mute.bell_is_broken.set(true);
    [World::default(), mute]
}

#[test]
fn every_worker_hears_what_others_change_and_hears_it_once() {
    for world in worlds() {
        let (mut one, mut other) = (log(8, &world), log(8, &world));
        one.listen(&world);
        assert_eq!(one.layout(), other.layout());
        for _ in 0..3 {
            assert_eq!(other.listen(&world), News::None);
        }
        publish(&one, &names(0..1), &world);
        publish(&one, &names(1..3), &world);
        assert_eq!(other.listen(&world), named(&names(0..3)));
        assert_eq!(other.listen(&world), News::None);
        assert_eq!(one.listen(&world), named(&names(0..3)), "its own changes too");
    }
}

#[test]
fn what_a_worker_has_missed_beyond_64_is_everything() {
    for world in worlds() {
        for missed in [1, 63, 64, 65, 200] {
            let (one, mut other) = (log(8, &world), log(8, &world));
            other.listen(&world);
            for n in 0..missed {
                publish(&one, &names(n..n + 1), &world);
            }
            let expected = if missed <= NAMED {
                named(&names(0..missed))
            } else {
                News::Everything
            };
            assert_eq!(other.listen(&world), expected, "{missed} at a time");
            publish(&one, &names(0..missed), &world);
            assert_eq!(other.listen(&world), expected, "{missed} at once");
            assert_eq!(other.listen(&world), News::None);
        }
    }
}

#[test]
fn a_change_of_everything_makes_what_is_stored_void() {
    for world in worlds() {
        let (one, mut other) = (log(8, &world), log(8, &world));
        other.listen(&world);
        let before = other.layout().unwrap();
        publish(&one, &names(0..3), &world);
        one.publish_everything(&world).unwrap();
        publish_anew(&one, &world);
        assert_eq!(other.listen(&world), News::Everything);
        let after = other.layout().unwrap();
        assert_ne!(before.base, after.base);
        assert_eq!(
            (before.sets, before.seed),
            (after.sets, after.seed),
            "everything keeps its place"
        );
        assert_eq!(
            one.publish(&["t0"], before, &world),
            Err(NotWritten::Outpaced),
            "what was written under the old layout must be written again"
        );
    }
}

/// A tenant that is named after a change of everything.
fn publish_anew(log: &Log, world: &World) {
    let stored = Changes::decode(&world.shared(KEY).value).unwrap();
    log.publish(&["late"], stored.layout, world).unwrap();
}

#[test]
fn the_table_of_the_last_plugin_to_begin_is_that_of_all() {
    for world in worlds() {
        let mut small = log(8, &world);
        let mut large = log(32, &world);
        assert_eq!(small.listen(&world), News::Everything);
        assert_eq!(small.layout(), large.layout());
        assert_eq!(large.layout().unwrap().sets, 32);
        assert_eq!(large.listen(&world), News::None);
        publish(&small, &names(0..1), &world);
        assert_eq!(large.listen(&world), named(&names(0..1)));
        assert_eq!(small.listen(&world), named(&names(0..1)));
        let again = log(8, &world);
        assert_eq!(again.layout().unwrap().sets, 8);
        assert_eq!(large.listen(&world), News::Everything);
    }
}

#[test]
fn a_log_that_cannot_be_read_is_begun_anew_and_nobody_trusts_what_was_before() {
    let other_format = |value: &[u8]| [&[FORMAT + 1], &value[1..]].concat();
    let no_sets = |value: &[u8]| {
        let mut changes = Changes::decode(value).unwrap();
        changes.layout.sets = 0;
        changes.encode()
    };
    type Damage<'a> = (&'a str, Box<dyn Fn(&[u8]) -> Vec<u8>>);
    let damages: [Damage<'_>; 5] = [
        ("lost", Box::new(|_| Vec::new())),
        ("garbage", Box::new(|_| b"somebody else's".to_vec())),
        ("torn", Box::new(|value| value[..value.len() / 2].to_vec())),
        ("another format", Box::new(other_format)),
        ("a table without sets", Box::new(no_sets)),
    ];
    for (what, damage) in damages {
        for world in worlds() {
            let (mut one, mut other) = (log(8, &world), log(8, &world));
            publish(&one, &names(0..2), &world);
            one.listen(&world);
            other.listen(&world);
            let before = one.layout().unwrap();
            world.overwrite(KEY, &damage(&world.shared(KEY).value));
            world.random.set(77);
            // Whoever wants to change something finds out, though nobody has rung.
            assert_eq!(
                one.publish(&["t9"], before, &world),
                Err(NotWritten::Outpaced),
                "{what}"
            );
            one.distrust();
            assert_eq!(one.listen(&world), News::Everything, "{what}");
            let after = one.layout().unwrap();
            assert_ne!(before, after, "{what}");
            assert_eq!(other.listen(&world), News::Everything, "{what}");
            assert_eq!(other.layout(), Some(after), "{what}");
            publish(&one, &names(0..1), &world);
            assert_eq!(other.listen(&world), named(&names(0..1)), "{what}");
        }
    }
}

#[test]
fn nobody_else_makes_the_table_larger_than_it_may_be_configured() {
    for world in worlds() {
        let mut log = log(8, &world);
        let mut planted = Changes::decode(&world.shared(KEY).value).unwrap();
        for (sets, believed) in [(MAX_SETS, true), (MAX_SETS + 1, false), (u32::MAX, false), (0, false)] {
            planted.layout.sets = sets;
            planted.layout.base += 1;
            world.overwrite(KEY, &planted.encode());
            world.ring();
            assert_eq!(log.listen(&world), News::Everything);
            log.listen(&world);
            assert_eq!(
                log.layout().map(|layout| layout.sets),
                Some(if believed { sets } else { 8 })
            );
        }
    }
}

#[test]
fn an_older_log_under_the_same_layout_is_not_taken_for_the_present_one() {
    let world = World::default();
    let mut one = log(8, &world);
    let old = world.shared(KEY).value;
    publish(&one, &names(0..3), &world);
    one.listen(&world);
    world.overwrite(KEY, &old);
    one.distrust();
    assert_eq!(one.listen(&world), News::Everything);
}

#[test]
fn who_has_changed_something_is_spared_its_own_change_and_no_other() {
    let world = World::default();
    let (mut one, other) = (log(8, &world), log(8, &world));
    let mine = publish(&one, &names(0..1), &world);
    one.skip(mine);
    assert_eq!(one.listen(&world), News::None);
    publish(&other, &names(1..2), &world);
    let mine = publish(&one, &names(2..3), &world);
    one.skip(mine);
    assert_eq!(one.listen(&world), named(&names(1..3)));
}

#[test]
fn two_workers_that_begin_at_once_have_the_same_log() {
    for world in worlds() {
        let mut late = Log::new(8);
        // The first one to write is the other one.
        let mut first = Log::new(8);
        first.listen(&world);
        let written = world.store.borrow_mut().remove(KEY).unwrap();
        let outpaced = Racing {
            world: &world,
            written: std::cell::RefCell::new(Some(written)),
        };
        assert_eq!(late.listen(&outpaced), News::Everything);
        assert_eq!(
            late.layout(),
            first.layout(),
            "at once: a lookup that begins now must know its generation"
        );
    }
}

/// A world in which somebody else writes the log between a worker's look at it and its write.
struct Racing<'a> {
    world: &'a World,
    written: std::cell::RefCell<Option<(u32, Vec<u8>)>>,
}

impl Node for Racing<'_> {
    fn realtime_ms(&self) -> u64 {
        self.world.realtime_ms()
    }
    fn monotonic_ms(&self) -> u64 {
        self.world.monotonic_ms()
    }
    fn random(&self) -> u32 {
        self.world.random()
    }
    fn add(&self, counter: crate::telemetry::Counter, by: u64) {
        self.world.add(counter, by);
    }
    fn adjust(&self, gauge: crate::telemetry::Gauge, by: i64) {
        self.world.adjust(gauge, by);
    }
    fn set(&self, gauge: crate::telemetry::Gauge, to: u64) {
        self.world.set(gauge, to);
    }
    fn observe(&self, histogram: crate::telemetry::Histogram, sample: u64) {
        self.world.observe(histogram, sample);
    }
    fn shared(&self, key: &str) -> crate::node::Shared {
        self.world.shared(key)
    }
    fn share(&self, key: &str, value: &[u8], expected: Version) -> Result<(), NotWritten> {
        if let Some(written) = self.written.borrow_mut().take() {
            self.world.store.borrow_mut().insert(KEY.to_owned(), written);
        }
        self.world.share(key, value, expected)
    }
    fn bell(&self) -> Option<u64> {
        self.world.bell()
    }
    fn ring(&self) {
        self.world.ring();
    }
    fn verify_signature(&self, check: &crate::node::SignatureCheck<'_>) -> Option<bool> {
        self.world.verify_signature(check)
    }
    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        self.world.dynamic_metadata()
    }
}

#[test]
fn a_host_that_refuses_writes_has_no_log() {
    for world in worlds() {
        world.refuses_writes.set(true);
        let mut log = Log::new(8);
        for _ in 0..3 {
            assert_eq!(log.listen(&world), News::Everything);
        }
        assert_eq!(log.layout(), None);
        world.refuses_writes.set(false);
        assert_eq!(log.listen(&world), News::Everything);
        assert!(log.layout().is_some());
        world.refuses_writes.set(true);
        let layout = log.layout().unwrap();
        assert_eq!(log.publish(&["t0"], layout, &world), Err(NotWritten::Refused));
        assert_eq!(log.publish_everything(&world), Err(NotWritten::Refused));
    }
}

#[test]
fn a_write_that_comes_too_late_is_made_again() {
    let world = World::default();
    let (one, mut other) = (log(8, &world), log(8, &world));
    other.listen(&world);
    world.outpaced.set(5);
    publish(&one, &names(0..1), &world);
    assert_eq!(other.listen(&world), named(&names(0..1)));
    world.outpaced.set(u32::MAX);
    assert_eq!(
        one.publish(&["t0"], one.layout().unwrap(), &world),
        Err(NotWritten::Refused),
        "but not for ever"
    );
}
