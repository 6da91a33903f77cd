//! Prologues that `cargo morestack` puts everywhere: who is preempted and who is not, that all that a function is called with
//! arrives, that panics find their way, and what happens where no stack can grow.
//!
//! The programs are in `fixtures`, a workspace of their own, with a third party's crate beside it. They have no attributes.

use morestack_tests::command::Finished;
use morestack_tests::environment::{BOTH, Environment, MOVE, NONE, PREEMPT};
use morestack_tests::instrumented::Build::{self, Full, Plain, Prologues};
use morestack_tests::instrumented::{aborting_fixture, fixture, program, run_with};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Both of what `cargo morestack` builds.
const BOTH_BUILDS: [Build; 2] = [Prologues, Full];

/// Runs the checks.
#[track_caller]
fn checks(build: Build, arguments: &[&str], environment: &Environment) -> Finished {
    run_with(&fixture(TMP, build, "fixture-checks"), arguments, environment)
}

/// The lines that a program printed, each a name and a number.
struct Numbers(Finished);

impl Numbers {
    #[track_caller]
    fn of(finished: Finished) -> Numbers {
        assert!(finished.status.success(), "{finished}");
        Numbers(finished)
    }

    /// The last of this name.
    #[track_caller]
    fn get(&self, name: &str) -> u64 {
        let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        self.0.stdout.lines().rev().find_map(of).unwrap_or_else(|| panic!("no {name}: {}", self.0))
    }

    #[track_caller]
    fn all_are(&self, expected: u64, names: &[&str]) {
        for name in names {
            assert_eq!(self.get(name), expected, "{name}: {}", self.0);
        }
    }

    #[track_caller]
    fn at_least(&self, least: u64, name: &str) {
        assert!(self.get(name) >= least, "{name} of less than {least}: {}", self.0);
    }
}

/// Who is preempted.
mod preemption {
    use super::*;

    #[test]
    fn a_third_party_is_alone_for_the_length_of_a_call() {
        for build in BOTH_BUILDS {
            for (rounds, environment) in [("400", PREEMPT), ("10000", NONE)] {
                let numbers = Numbers::of(checks(build, &["alone", "third-party", rounds], environment));
                numbers.all_are(0, &["overlaps", "wrong"]);
                // It was to be interrupted often, and others were.
                numbers.at_least(50, "preemptions");
                numbers.at_least(100, "deferred");
            }
        }
    }

    /// The test above is able to fail.
    #[test]
    fn the_same_code_of_the_workspace_is_not() {
        let numbers = Numbers::of(checks(Prologues, &["alone", "own", "400"], PREEMPT));
        numbers.at_least(100, "overlaps");
        numbers.at_least(100, "wrong");
    }

    #[test]
    fn the_generator_of_a_thread_is_never_interrupted() {
        for build in BOTH_BUILDS {
            for (rounds, environment) in [("400", PREEMPT), ("20000", NONE)] {
                let numbers = Numbers::of(checks(build, &["rand", rounds], environment));
                numbers.all_are(0, &["twice"]);
                numbers.at_least(50, "preemptions");
                numbers.at_least(50, "deferred");
            }
        }
    }

    #[test]
    fn what_counts_is_who_wrote_a_function_and_not_who_instantiates_it() {
        for build in BOTH_BUILDS {
            let numbers = Numbers::of(checks(build, &["instances"], PREEMPT));
            numbers.all_are(0, &["instantiated-preemptions", "provided-preemptions"]);
            numbers.at_least(1000, "instantiated-deferred");
            numbers.at_least(1000, "provided-deferred");
            // Where it calls back, it must be prepared for anything.
            numbers.all_are(1000, &["callback-preemptions"]);
            numbers.at_least(1000, "own-preemptions");
        }
    }

    #[test]
    fn stress_acts_at_every_entry() {
        for build in BOTH_BUILDS {
            for (on, environment, moves, preemptions) in [
                ("go", MOVE, true, false),
                ("go", PREEMPT, false, true),
                ("spawn", PREEMPT, false, true),
                ("go", BOTH, true, true),
            ] {
                let numbers = Numbers::of(checks(build, &["count", on], environment));
                for (name, least) in [("small", 500), ("large", 20), ("many", 100)] {
                    let entries = numbers.get(&format!("{name}-entries"));
                    assert!(entries >= least, "{}", numbers.0);
                    let expected = |acts| if acts { entries } else { 0 };
                    // A stack that copies also grows by itself, where stress does not move it.
                    if moves || build == Prologues && on == "spawn" {
                        assert_eq!(numbers.get(&format!("{name}-moves")), expected(moves), "{}", numbers.0);
                    }
                    assert_eq!(numbers.get(&format!("{name}-preemptions")), expected(preemptions), "{}", numbers.0);
                }
            }
        }
    }

    #[test]
    fn a_cancelled_thread_goes_on_until_it_waits_or_its_author_allows_for_it() {
        for build in BOTH_BUILDS {
            let numbers = Numbers::of(checks(build, &["cancel"], NONE));
            for way in ["checkpoint", "marked", "wait", "yield"] {
                numbers.all_are(1, &[&format!("{way}-goes-on"), &format!("{way}-cancelled")]);
            }
            numbers.at_least(1, "preemptions");
        }
    }
}

/// What functions are called with.
mod registers {
    use super::*;

    /// Entries of functions in twenty rounds, of those at least that every processor can do.
    const ENTRIES: u64 = 200;

    #[test]
    fn all_are_preserved_where_it_is_preempted() {
        for build in BOTH_BUILDS {
            for on in ["spawn", "go"] {
                Numbers::of(checks(build, &["registers", on], PREEMPT)).at_least(ENTRIES, "preemptions");
            }
        }
    }

    #[test]
    fn all_are_relocated_where_its_stack_moves() {
        for build in BOTH_BUILDS {
            for environment in [MOVE, BOTH] {
                Numbers::of(checks(build, &["registers", "go"], environment)).at_least(ENTRIES, "moves");
            }
        }
    }
}

/// Panics.
mod unwinding {
    use super::*;

    #[test]
    fn a_panic_runs_all_destructors_and_is_caught() {
        for build in BOTH_BUILDS {
            for (on, environment) in [("spawn", NONE), ("go", NONE), ("spawn", PREEMPT), ("go", BOTH)] {
                let numbers = Numbers::of(checks(build, &["caught", on], environment));
                numbers.all_are(20, &["caught"]);
                numbers.at_least(10_000, "entered");
                assert_eq!(numbers.get("entered"), numbers.get("dropped"), "{}", numbers.0);
                // With side stacks it may be small enough.
                if on == "go" && build == Prologues {
                    numbers.at_least(1, "moves");
                }
            }
        }
    }

    #[test]
    fn an_overflow_runs_all_destructors_and_comes_back_from_join() {
        for on in ["spawn", "go"] {
            for through in ["plain", "generic", "c-callback", "c", "dyn"] {
                let finished = checks(Prologues, &["overflow", on, through], NONE);
                let said = finished.stderr.matches("green thread stack overflow: the limit is 1.0 MiB").count();
                assert_eq!(said, 2, "{finished}");
                let numbers = Numbers::of(finished);
                assert_eq!(numbers.0.stdout.matches("overflows 1\n").count(), 2, "{}", numbers.0);
                numbers.at_least(1000, "entered");
                assert_eq!(numbers.get("entered"), numbers.get("dropped"), "{}", numbers.0);
            }
        }
    }

    /// Where nothing may be raised it runs into the guard page: a third party's recursion, and one of an ABI that does not unwind.
    #[test]
    fn an_overflow_elsewhere_ends_the_process_and_names_the_thread() {
        let who = [
            ("spawn", "reached the guard page of its 1.0 MiB"),
            ("go", "needed more than the 32.0 KiB below the guard"),
        ];
        for (on, why) in who {
            let finished = checks(Prologues, &["third-party-overflow", on], NONE);
            assert_eq!(finished.signal(), Some(libc::SIGABRT), "{finished}");
            assert!(
                finished.stderr.contains("green thread 'deep' (id ") && finished.stderr.contains(why),
                "{finished}"
            );
            let finished = checks(Prologues, &["overflow", on, "c-nounwind"], NONE);
            assert_eq!(finished.signal(), Some(libc::SIGABRT), "{finished}");
            assert!(finished.stderr.contains(why), "{finished}");
        }
    }

    #[test]
    fn where_panics_abort_the_message_comes_before() {
        let finished = run_with(&aborting_fixture(TMP), &[], NONE);
        assert_eq!(finished.signal(), Some(libc::SIGABRT), "{finished}");
        assert!(finished.stderr.contains("morestack: green thread 'deep' (id "), "{finished}");
        assert!(finished.stderr.contains("green thread stack overflow: the limit is"), "{finished}");
    }
}

/// Where no stack can grow.
mod system_stacks {
    use super::*;

    #[test]
    fn recursion_in_a_blocking_call_is_fatal_and_named() {
        let finished = checks(Prologues, &["guards", "blocking"], NONE);
        assert_eq!(finished.signal(), Some(libc::SIGABRT), "{finished}");
        assert!(
            finished.stderr.contains("fatal: morestack on g0: the scheduler stack cannot grow (sp=0x"),
            "{finished}"
        );
    }

    #[test]
    fn recursion_in_a_signal_handler_is_fatal_and_named() {
        for environment in [NONE, PREEMPT] {
            let finished = checks(Prologues, &["guards", "signal"], environment);
            assert_eq!(finished.signal(), Some(libc::SIGABRT), "{finished}");
            let by_check = "fatal: morestack on the signal stack: it cannot grow (sp=0x";
            let by_page = "a signal handler overflowed the signal stack of its worker, 64.0 KiB: it had interrupted green thread '";
            let said = &finished.stderr;
            assert!(said.contains(by_check) || said.contains(by_page), "{finished}");
        }
    }

    /// A handler has checks like all functions, and runs to its end though they fail: nothing comes between, and its stack stays where
    /// it is under code that has lent a local elsewhere for a moment.
    #[test]
    fn signal_handlers_are_neither_preempted_nor_moved() {
        for build in BOTH_BUILDS {
            for on in ["spawn", "go", "spawn-alternate", "go-alternate"] {
                for environment in [NONE, PREEMPT, MOVE] {
                    let numbers = Numbers::of(checks(build, &["signals", on], environment));
                    numbers.all_are(0, &["interrupted", "wrong"]);
                    numbers.at_least(1500, "handled");
                    numbers.at_least(
                        100,
                        if environment == MOVE && on.starts_with("go") { "moves" } else { "preemptions" },
                    );
                }
            }
        }
    }
}

/// Programs and libraries in all combinations.
mod images {
    use super::*;

    const LIBRARY: &str = "libfixture_image.so";

    /// With side stacks they are the program's, so it must be one that has them.
    #[test]
    fn a_program_without_the_scheduler_runs() {
        for (program, images) in
            [(Plain, &[Plain, Prologues][..]), (Prologues, &[Plain, Prologues]), (Full, &[Plain, Full])]
        {
            let program = fixture(TMP, program, "fixture-plain");
            Numbers::of(run_with(&program, &[], NONE)).all_are(1, &["threads"]);
            for image in images {
                let image = fixture(TMP, *image, LIBRARY);
                let numbers = Numbers::of(run_with(&program, &[image.to_str().expect("a path")], NONE));
                numbers.all_are(500_500, &["image"]);
            }
        }
    }

    /// Entries of the program's own callback and of the library's functions while it is loaded once.
    const CALLED_BACK: u64 = 201;
    const LIBRARYS: u64 = 103;

    #[track_caller]
    fn loads(program: Build, image: Build, environment: &Environment) -> Numbers {
        let image = fixture(TMP, image, LIBRARY);
        let arguments = ["load", image.to_str().expect("a path")];
        let numbers = Numbers::of(checks(program, &arguments, environment));
        numbers.all_are(20, &["times"]);
        numbers
    }

    #[test]
    fn a_librarys_marks_hold_while_it_is_loaded() {
        for build in BOTH_BUILDS {
            let numbers = loads(build, build, BOTH);
            assert_eq!(numbers.get("preemptions"), CALLED_BACK + LIBRARYS, "{}", numbers.0);
            if build == Prologues {
                numbers.at_least(CALLED_BACK + LIBRARYS, "moves");
            }
        }
    }

    #[test]
    fn one_that_needs_side_stacks_is_refused_where_there_are_none() {
        let image = fixture(TMP, Full, LIBRARY);
        for program in [Plain, Prologues] {
            let program = fixture(TMP, program, "fixture-plain");
            let finished = run_with(&program, &[image.to_str().expect("a path")], NONE);
            assert_eq!(finished.status.code(), Some(3), "{finished}");
            assert!(finished.stderr.contains("undefined symbol: __safestack_unsafe_stack_ptr"), "{finished}");
        }
    }

    #[test]
    fn what_one_without_checks_calls_back_grows_above_its_frames() {
        let image = fixture(TMP, Plain, LIBRARY);
        for (program, on) in [(Prologues, "go"), (Full, "go"), (Full, "spawn")] {
            let numbers = Numbers::of(checks(program, &["load-deep", on, image.to_str().expect("a path")], NONE));
            numbers.all_are(1, &["deep"]);
            numbers.at_least(3, "moves");
        }
    }

    #[test]
    fn one_may_have_checks_and_the_other_not() {
        for (program, image, preempted) in
            [(Prologues, Plain, CALLED_BACK), (Full, Plain, CALLED_BACK), (Plain, Prologues, 0), (Plain, Plain, 0)]
        {
            let numbers = loads(program, image, BOTH);
            assert_eq!(numbers.get("preemptions"), preempted, "{}", numbers.0);
            loads(program, image, NONE);
        }
        loads(Prologues, Prologues, NONE);
        loads(Full, Full, NONE);
    }
}

#[test]
fn an_allocator_of_the_programs_own_is_not_interrupted() {
    let builds =
        BOTH_BUILDS.into_iter().flat_map(|build| [NONE, PREEMPT, BOTH].map(|environment| (build, environment)));
    for (build, environment) in builds {
        let numbers = Numbers::of(run_with(&fixture(TMP, build, "fixture-allocator"), &[], environment));
        numbers.all_are(10, &["complete"]);
        numbers.at_least(1000, "reused");
        if environment != NONE {
            numbers.at_least(1000, "preemptions");
        }
    }
}

/// The programs that the tests of `#[prologue]` run, with checks everywhere.
mod programs {
    use super::*;

    #[test]
    fn compute_the_same() {
        let binary = program(TMP, "programs");
        for name in ["recursion", "sort", "fmt", "json", "panic", "deep64", "iter", "btree", "hashmap", "ring"] {
            let of = |on: &str, environment| {
                run_with(&binary, &[name, "--on", on, "--small", "--threads", "2"], environment).success()
            };
            let expected = of("os", NONE);
            for (on, environment) in [("spawn", PREEMPT), ("go", BOTH)] {
                assert_eq!(of(on, environment), expected, "{name} on {on}: {environment:?}");
            }
        }
    }

    #[test]
    fn random_ones_do_too() {
        let binary = program(TMP, "differential");
        let all: &Environment = &[("MORESTACK_STRESS", "move,preempt,freeze")];
        for (seed, programs, environment) in
            [("11000000", "500", NONE), ("12000000", "300", all), ("13000000", "30", MOVE)]
        {
            let finished = run_with(&binary, &["--seed", seed, "--programs", programs, "--threads", "4"], environment);
            assert!(finished.status.success(), "{finished}");
        }
    }

    /// Locals that the heap, thread-locals and other threads refer to, on stacks that move.
    #[test]
    fn random_ones_that_lend_do_too() {
        let binary = program(TMP, "differential");
        let all: &Environment = &[("MORESTACK_STRESS", "move,preempt,freeze")];
        let fast: &Environment = &[("MORESTACK_STRESS", "move")];
        let frozen: &Environment = &[("MORESTACK_STRESS", "freeze"), ("MORESTACK_EFENCE", "1")];
        for (seed, programs, environment, moves) in [
            ("14000000", 500, NONE, 0),
            ("15000000", 300, all, 50),
            ("18000000", 20_000, fast, 50),
            ("16000000", 40, MOVE, 50),
            ("17000000", 100, frozen, 1),
        ] {
            let arguments = ["--lent", "--seed", seed, "--programs", &programs.to_string(), "--threads", "4"];
            let finished = run_with(&binary, &arguments, environment);
            assert!(finished.status.success(), "{finished}");
            let words: Vec<&str> = finished.stdout.split_whitespace().collect();
            let moved = words.windows(2).find(|pair| pair[0] == "reserved-moves").map(|pair| pair[1].parse::<u64>());
            assert!(matches!(moved, Some(Ok(moved)) if moved >= moves * programs), "{finished}");
        }
    }
}
