//! The C interface: `include/flywheel_edge.h` says what each function promises.
//!
//! Panics end at this border and become errors, unless it is built with `panic = "abort"`. What callers must promise is in each function's safety comment, and is what
//! any C function asks of its arguments.

use std::{
    ffi::{CStr, CString, c_char},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    ptr, slice,
};

use edge_runtime::Classifier;
use models::signing::TrustedKeys;

/// A classifier, with its labels as C reads them.
pub struct Handle {
    classifier: Classifier,
    labels: Vec<CString>,
}

/// `flywheel_prediction`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Index of the most probable class.
    pub class_index: usize,
    /// Its calibrated probability.
    pub confidence: f64,
    /// Whether that is enough for a pseudo-label.
    pub is_confident: bool,
}

/// # Safety
/// `bundle` is a zero-terminated string, `trusted_key` one or null, `error` has room for `error_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flywheel_open(
    bundle: *const c_char,
    trusted_key: *const c_char,
    error: *mut c_char,
    error_size: usize,
) -> *mut Handle {
    // SAFETY: both are zero-terminated or null, as the caller promises.
    let (bundle, trusted_key) = unsafe { (text(bundle), text(trusted_key)) };
    let opened = caught(|| open(bundle?.ok_or("no bundle was named")?, trusted_key?));
    match opened {
        Ok(handle) => Box::into_raw(Box::new(handle)),
        Err(reason) => {
            // SAFETY: there is room, as the caller promises.
            unsafe { tell(&reason, error, error_size) };
            ptr::null_mut()
        }
    }
}

/// # Safety
/// `classifier` comes from [`flywheel_open`] and is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flywheel_classes(classifier: *const Handle) -> usize {
    // SAFETY: it is null or alive, as the caller promises.
    unsafe { classifier.as_ref() }.map_or(0, |handle| handle.labels.len())
}

/// # Safety
/// `classifier` comes from [`flywheel_open`] and is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flywheel_label(classifier: *const Handle, class_index: usize) -> *const c_char {
    // SAFETY: it is null or alive, as the caller promises.
    let handle = unsafe { classifier.as_ref() };
    handle.and_then(|handle| handle.labels.get(class_index)).map_or(ptr::null(), |label| label.as_ptr())
}

/// # Safety
/// `classifier` comes from [`flywheel_open`] and is not closed; `image` holds `length` bytes, `prediction` has room for one,
/// `error` for `error_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flywheel_classify(
    classifier: *const Handle,
    image: *const u8,
    length: usize,
    prediction: *mut Prediction,
    error: *mut c_char,
    error_size: usize,
) -> bool {
    // SAFETY: they are null or what the caller promises.
    let (handle, image) = unsafe { (classifier.as_ref(), bytes(image, length)) };
    let classified = caught(|| {
        let handle = handle.ok_or("no classifier was given")?;
        if prediction.is_null() {
            return Err("there is no place for the prediction".to_owned());
        }
        let found = handle.classifier.classify("the image", image).map_err(|e| e.to_string())?;
        let is_confident = handle.classifier.manifest().calibration.is_confident(&found);
        Ok(Prediction { class_index: found.class, confidence: found.confidence, is_confident })
    });
    match classified {
        Ok(found) => {
            // SAFETY: it is not null and there is room for one, as the caller promises.
            unsafe { prediction.write(found) };
            true
        }
        Err(reason) => {
            // SAFETY: there is room, as the caller promises.
            unsafe { tell(&reason, error, error_size) };
            false
        }
    }
}

/// # Safety
/// `classifier` is null, or comes from [`flywheel_open`], is not closed, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flywheel_close(classifier: *mut Handle) {
    if !classifier.is_null() {
        // SAFETY: it came from `Box::into_raw` and is given back once, as the caller promises.
        drop(unsafe { Box::from_raw(classifier) });
    }
}

fn open(bundle: &str, trusted_key: Option<&str>) -> Result<Handle, String> {
    let classifier = Classifier::open(Path::new(bundle)).map_err(|e| e.to_string())?;
    if let Some(key) = trusted_key {
        let trusted = TrustedKeys::read(&[key]).map_err(|e| e.to_string())?;
        classifier.bundle().verify(&trusted).map_err(|e| e.to_string())?;
    }
    let label = |name: &String| CString::new(name.as_bytes()).map_err(|e| format!("label {name:?}: {e}"));
    let labels = classifier.manifest().labels.names().iter().map(label).collect::<Result<_, _>>()?;
    Ok(Handle { classifier, labels })
}

fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("this is a fault of Flywheel: it panicked".into()))
}

/// # Safety
/// `text` is zero-terminated or null, and outlives what is returned.
unsafe fn text<'a>(text: *const c_char) -> Result<Option<&'a str>, String> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not null, and zero-terminated as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_str().map(Some).map_err(|e| format!("a path is not UTF-8: {e}"))
}

/// # Safety
/// `data` holds `length` bytes or is null, and outlives what is returned.
unsafe fn bytes<'a>(data: *const u8, length: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: it is not null and holds as many bytes as the caller promises.
    unsafe { slice::from_raw_parts(data, length) }
}

/// Writes as much of a message as there is room for, and a zero.
///
/// # Safety
/// `error` has room for `size` bytes, or `size` is 0.
unsafe fn tell(message: &str, error: *mut c_char, size: usize) {
    if error.is_null() || size == 0 {
        return;
    }
    let mut length = message.len().min(size - 1);
    while !message.is_char_boundary(length) {
        length -= 1;
    }
    // SAFETY: `length + 1` bytes are at most `size`, for which there is room; the two do not overlap, since one is ours.
    unsafe {
        ptr::copy_nonoverlapping(message.as_ptr(), error.cast::<u8>(), length);
        error.add(length).write(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_characters_and_ends_with_a_zero() {
        let mut room = [b'x'; 8];
        for (size, expected) in [(0, "xxxxxxxx"), (1, "\0xxxxxxx"), (4, "a\0xxxxxx"), (5, "a€\0xxx"), (8, "a€\0xxx")]
        {
            room.fill(b'x');
            // SAFETY: `size` is at most the room there is.
            unsafe { tell("a€", room.as_mut_ptr().cast(), size) };
            assert_eq!(room, expected.as_bytes(), "{size}");
        }
        // SAFETY: nothing is written.
        unsafe { tell("a", ptr::null_mut(), 5) };
    }

    #[test]
    fn null_is_an_answer_and_never_a_crash() {
        let mut error = [0; 64];
        // SAFETY: null is allowed everywhere, and `error` has its size.
        unsafe {
            assert!(flywheel_open(ptr::null(), ptr::null(), error.as_mut_ptr(), error.len()).is_null());
            assert!(CStr::from_ptr(error.as_ptr()).to_string_lossy().contains("no bundle"));
            assert_eq!(flywheel_classes(ptr::null()), 0);
            assert!(flywheel_label(ptr::null(), 0).is_null());
            let (image, place) = (ptr::null(), ptr::null_mut());
            assert!(!flywheel_classify(ptr::null(), image, 7, place, error.as_mut_ptr(), error.len()));
            flywheel_close(ptr::null_mut());
        }
    }
}
