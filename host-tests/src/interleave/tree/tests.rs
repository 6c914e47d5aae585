//! The search against programs small enough to run every schedule of them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::interleave::op::{Access, Place};

/// What a worker of these tests does next.
#[derive(Debug, Clone, Copy)]
enum Instruction {
    /// Takes the value of a cell.
    Get(usize),
    /// Writes what was taken last, and one more, into a cell.
    Set(usize),
    /// Adds one to a cell and does not look.
    Add(usize),
    /// Leaves the next instruction out where what was taken last is odd.
    SkipIfOdd,
}

type Program = Vec<Instruction>;

#[derive(Debug, Clone, Default)]
struct Worker {
    at: usize,
    taken: usize,
}

/// What is left when everybody is done: the cells, and what each worker took last.
type End = (Vec<usize>, Vec<usize>);

impl Worker {
    /// The next act on what is shared; what the worker does for itself is done.
    fn act(&mut self, program: &Program) -> Option<(Instruction, Op)> {
        loop {
            let instruction = *program.get(self.at)?;
            self.at += 1;
            let op = |cell: usize, access| Op::new("act", Place::Metric(cell.to_string()), access);
            return Some(match instruction {
                Instruction::SkipIfOdd => {
                    self.at += self.taken % 2;
                    continue;
                }
                Instruction::Get(cell) => (instruction, op(cell, Access::Read)),
                Instruction::Set(cell) => (instruction, op(cell, Access::Write)),
                Instruction::Add(cell) => (instruction, op(cell, Access::Add)),
            });
        }
    }
}

fn run(programs: &[Program], pilot: &mut Pilot) -> End {
    let mut cells = vec![0; 3];
    let mut workers = vec![Worker::default(); programs.len()];
    let mut next = BTreeMap::new();
    let mut pending = Pending::new();
    let arrive = |number: usize, workers: &mut Vec<Worker>, pending: &mut Pending| {
        if let Some((instruction, op)) = workers[number].act(&programs[number]) {
            pending.insert(number, Arc::new(op));
            return Some(instruction);
        }
        None
    };
    for number in 0..programs.len() {
        next.insert(number, arrive(number, &mut workers, &mut pending));
    }
    while !pending.is_empty() {
        let number = pilot.choose(&pending);
        pending.remove(&number);
        match next[&number].expect("a pending worker has an instruction") {
            Instruction::Get(cell) => workers[number].taken = cells[cell],
            Instruction::Set(cell) => cells[cell] = workers[number].taken + 1,
            Instruction::Add(cell) => cells[cell] += 1,
            Instruction::SkipIfOdd => unreachable!("is no act"),
        }
        next.insert(number, arrive(number, &mut workers, &mut pending));
    }
    (cells, workers.into_iter().map(|worker| worker.taken).collect())
}

/// All ends, and for each run what makes it equivalent to others: which acts came before which.
fn explore(programs: &[Program], is_pruned: bool) -> (Tally, BTreeSet<End>, BTreeSet<Vec<String>>) {
    let mut tree = Tree::new(is_pruned);
    let (mut ends, mut classes) = (BTreeSet::new(), BTreeSet::new());
    while let Some(job) = tree.next() {
        let mut pilot = job.pilot();
        let end = run(programs, &mut pilot);
        assert_eq!(pilot.fault, None);
        if !pilot.is_redundant {
            ends.insert(end);
            let is_new = classes.insert(class(&pilot.points));
            assert!(is_new || !is_pruned, "two equivalent runs: {programs:?}");
        }
        tree.absorb(&job, pilot).expect("the same choices, the same acts");
    }
    (tree.tally, ends, classes)
}

/// The acts as one of all orders that are equivalent: the first in the alphabet.
fn class(points: &[Point]) -> Vec<String> {
    let mut left: Vec<(usize, &Op)> = points.iter().map(|p| (p.chosen, &*p.pending[&p.chosen])).collect();
    let mut normal = Vec::new();
    while !left.is_empty() {
        let is_free = |at: &usize| {
            let (worker, op) = left[*at];
            left[..*at]
                .iter()
                .all(|(other, before)| *other != worker && !before.conflicts(op))
        };
        let free = (0..left.len()).filter(is_free).min_by_key(|at| left[*at].0);
        let (worker, op) = left.remove(free.expect("the first is free"));
        normal.push(format!("{worker} {op:?}"));
    }
    normal
}

fn random_program(dice: &mut fastrand::Rng, longest: usize) -> Program {
    let instruction = |dice: &mut fastrand::Rng| {
        let cell = dice.usize(..3);
        match dice.u8(..7) {
            0..3 => Instruction::Get(cell),
            3..5 => Instruction::Set(cell),
            5 => Instruction::Add(cell),
            _ => Instruction::SkipIfOdd,
        }
    };
    (0..dice.usize(1..=longest)).map(|_| instruction(dice)).collect()
}

#[test]
fn a_pruned_search_makes_one_run_of_each_class_and_counts_all_of_them() {
    let mut dice = fastrand::Rng::with_seed(4);
    let (mut runs, mut schedules, mut redundant) = (0, 0, 0);
    for (workers, longest, programs) in [(2, 6, 150), (3, 3, 150), (4, 2, 40)] {
        for _ in 0..programs {
            let programs: Vec<Program> = (0..workers).map(|_| random_program(&mut dice, longest)).collect();
            let (whole, all_ends, all_classes) = explore(&programs, false);
            let (pruned, ends, classes) = explore(&programs, true);
            assert_eq!(ends, all_ends, "{programs:?}");
            assert_eq!(classes, all_classes, "{programs:?}");
            assert_eq!(pruned.runs, all_classes.len() as u64, "{programs:?}");
            assert_eq!(pruned.schedules, Some(u128::from(whole.runs)), "{programs:?}");
            assert_eq!(whole.schedules, pruned.schedules, "{programs:?}");
            runs += pruned.runs;
            redundant += pruned.redundant;
            schedules += whole.runs;
        }
    }
    println!("{runs} runs and {redundant} redundant ones for {schedules} schedules");
    assert!(runs * 4 < schedules, "{runs} of {schedules}: hardly pruned at all");
}

#[test]
fn what_commutes_is_run_once_and_stands_for_every_order() {
    let programs = [vec![Instruction::Get(0); 6], vec![Instruction::Get(0); 6]];
    let (tally, ..) = explore(&programs, true);
    let expected = Tally {
        runs: 1,
        redundant: 0,
        schedules: Some(924),
    };
    assert_eq!(tally, expected, "12 over 6");
    assert_eq!(explore(&programs, false).0.runs, 924);
}

#[test]
fn what_never_commutes_is_run_in_every_order() {
    let programs = [vec![Instruction::Set(0); 4], vec![Instruction::Set(0); 3]];
    let (tally, ..) = explore(&programs, true);
    assert_eq!((tally.runs, tally.schedules), (35, Some(35)), "7 over 3");
}

#[test]
fn a_world_that_is_not_the_same_twice_is_found_out() {
    let programs = |number: usize| [vec![Instruction::Set(0)], vec![Instruction::Set(number); 2]];
    let mut tree = Tree::new(true);
    let mut faults = Vec::new();
    for number in 0.. {
        let Some(job) = tree.next() else { break };
        let mut pilot = job.pilot();
        run(&programs(number % 3), &mut pilot);
        faults.extend(tree.absorb(&job, pilot).err());
        assert!(number < 100, "an endless search");
    }
    assert!(
        faults.iter().any(|fault| fault.contains("different acts")),
        "{faults:?}"
    );
}
