//! `program [IMAGE]`: calls the functions on green threads: those of a shared object, or its own.

mod functions;

use std::ffi::{CString, c_void};
use std::mem::transmute;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use functions::{LARGE, Page};
use morestack::{JoinHandle, Runtime, StackOverflow};

/// The functions of one image.
#[derive(Clone, Copy)]
struct Image {
    descend: extern "C-unwind" fn(u64) -> u64,
    spin: unsafe extern "C-unwind" fn(*const AtomicBool) -> u64,
    closure: unsafe extern "C-unwind" fn(*const AtomicBool) -> u64,
    fill: unsafe extern "C-unwind" fn(*const Page<LARGE>, u8) -> u64,
    classes: extern "C-unwind" fn(usize) -> u64,
    leaf: extern "C-unwind" fn(u64) -> u64,
    safe: extern "C-unwind" fn(u64) -> u64,
}

impl Image {
    fn own() -> Image {
        use functions::*;
        Image {
            descend: image_descend,
            spin: image_spin,
            closure: image_closure,
            fill: image_fill,
            classes: image_classes,
            leaf: image_class_leaf,
            safe: image_safe,
        }
    }

    fn load(path: &str) -> Image {
        let path = CString::new(path).expect("a path");
        // SAFETY: the image is one of `functions`; it has no constructors.
        let image = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!image.is_null(), "{path:?} does not load");
        let find = |name: &str| -> *mut c_void {
            let symbol = CString::new(name).expect("a name");
            // SAFETY: an image that stays loaded.
            let found = unsafe { libc::dlsym(image, symbol.as_ptr()) };
            assert!(!found.is_null(), "{name} is not in {path:?}");
            found
        };
        // SAFETY: the functions have these types.
        unsafe {
            Image {
                descend: transmute::<*mut c_void, extern "C-unwind" fn(u64) -> u64>(find("image_descend")),
                spin: transmute::<*mut c_void, unsafe extern "C-unwind" fn(*const AtomicBool) -> u64>(find(
                    "image_spin",
                )),
                closure: transmute::<*mut c_void, unsafe extern "C-unwind" fn(*const AtomicBool) -> u64>(find(
                    "image_closure",
                )),
                fill: transmute::<*mut c_void, unsafe extern "C-unwind" fn(*const Page<LARGE>, u8) -> u64>(find(
                    "image_fill",
                )),
                classes: transmute::<*mut c_void, extern "C-unwind" fn(usize) -> u64>(find("image_classes")),
                leaf: transmute::<*mut c_void, extern "C-unwind" fn(u64) -> u64>(find("image_class_leaf")),
                safe: transmute::<*mut c_void, extern "C-unwind" fn(u64) -> u64>(find("image_safe")),
            }
        }
    }
}

/// Starts a green thread on a copying stack, small at first: the caller is its spawn site.
///
/// # Safety
///
/// The contract of `go`: `f` lends no address of its stack.
#[track_caller]
unsafe fn go<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // SAFETY: the caller's promise.
    unsafe { morestack::go(f) }
}

const DEPTH: u64 = 20_000;

fn check(runtime: &'static Runtime, image: Image) {
    let grown = || runtime.metrics().grows;
    runtime.run(move || {
        let before = grown();
        // SAFETY: the function lends nothing.
        assert_eq!(unsafe { go(move || (image.descend)(DEPTH)) }.join().unwrap(), DEPTH + 1);
        assert!(grown() > before, "no stack grew in recursion");

        let before = grown();
        let page = Box::leak(Box::new([1_u8; LARGE]));
        let page = page.as_ptr() as usize;
        // SAFETY: the page stays, and is one; the function lends nothing.
        let sum = unsafe { go(move || (image.fill)(page as *const Page<LARGE>, 0)) }.join().unwrap();
        assert_eq!(sum, LARGE as u64);
        assert!(grown() > before, "no stack grew for a large frame");

        // Unwinds out of the image, whose copy of std did not raise it.
        // SAFETY: the function lends nothing.
        let error = unsafe { go(move || (image.descend)(u64::MAX)) }.join().unwrap_err();
        assert!(error.is::<StackOverflow>());

        // SAFETY: the function lends nothing.
        assert_eq!(unsafe { go(move || (image.classes)(7)) }.join().unwrap(), 3);
        assert_eq!((image.leaf)(1), 2);
        assert_eq!((image.safe)(9), 9);

        for spin in [image.spin, image.closure] {
            let stop = Arc::new(AtomicBool::new(false));
            let before = runtime.metrics().preemptions;
            let hog = {
                let stop = stop.clone();
                // SAFETY: the flag is in the heap, and set some time.
                unsafe { go(move || spin(Arc::as_ptr(&stop))) }
            };
            // Comes to its turn, on the one worker, when the other is preempted.
            morestack::spawn(move || {
                morestack::sleep(Duration::from_millis(1));
                stop.store(true, Relaxed);
            });
            assert!(hog.join().unwrap() > 0);
            assert!(runtime.metrics().preemptions > before, "nothing was preempted");
        }
    });
}

fn main() {
    let builder = Runtime::builder().workers(1).time_slice(Some(Duration::from_micros(100))).max_stack_size(64 << 20);
    let runtime: &'static Runtime = Box::leak(Box::new(builder.build().expect("a runtime")));
    check(runtime, std::env::args().nth(1).map_or_else(Image::own, |path| Image::load(&path)));
    println!("done");
}
