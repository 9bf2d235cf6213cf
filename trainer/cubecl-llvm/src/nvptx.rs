//! What is particular to NVIDIA GPUs.

/// The PTX version to emit for a driver.
pub mod ptx_version {
    use core::fmt;

    /// A PTX version. It has no values: nothing here emits PTX.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum PtxVersion {}

    impl PtxVersion {
        /// The newest PTX version that a driver loads, as `cuDriverGetVersion` reports the driver.
        ///
        /// Always `None`, which `cubecl-cuda` reads as "leave it to LLVM". It calls this for each
        /// device it opens, and only its LLVM compiler uses the answer.
        #[must_use]
        pub fn for_driver(_driver: i32) -> Option<Self> {
            None
        }
    }

    impl fmt::Display for PtxVersion {
        fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match *self {}
        }
    }
}
