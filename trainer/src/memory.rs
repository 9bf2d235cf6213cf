//! Memory that a program keeps from step to step.
//!
//! A step on the processor takes and frees hundreds of large tensors. glibc gives the memory of each back to the kernel, which clears it,
//! page by page, when the next one asks for it. Told to, it keeps the memory, in large pages; but it listens to nothing but the
//! environment that a program starts with.
//!
//! # Reference
//! The GNU C Library's manual, "Memory Allocation Tunables".

/// Where glibc looks.
pub const VARIABLE: &str = "GLIBC_TUNABLES";

/// Large tensors in the heap, which grows in large steps and never shrinks, in large pages.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TUNABLES: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=17179869184:\
                        glibc.malloc.top_pad=268435456";

/// Starts this program anew in its place, with the same arguments, so that it keeps its memory: until it ends, it has what it had at
/// most. To be called before a program has done anything, all of which would be done again.
///
/// Returns if it has been started so already, or with tunables of somebody else's choice; on systems without glibc; and where it
/// cannot be done. Then training is slower, to the same numbers.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if let (None, Ok(program)) = (std::env::var_os(VARIABLE), std::env::current_exe()) {
        use std::os::unix::process::CommandExt;

        let mut arguments = std::env::args_os();
        let mut anew = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            anew.arg0(name);
        }
        // Comes back only with an error.
        let _ = anew.args(arguments).env(VARIABLE, TUNABLES).exec();
    }
}
