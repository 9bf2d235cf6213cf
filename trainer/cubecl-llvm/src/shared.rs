//! What is common to the targets.

/// Which features of a device the LLVM compiler handles.
pub mod lowered_features {
    use cubecl_core::ir::DeviceProperties;

    /// The GPU family to narrow a device's features for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum GpuTarget {
        /// NVIDIA GPUs.
        Nvptx,
    }

    /// Narrows `properties` to what the LLVM compiler handles for `target`.
    ///
    /// Leaves them as they are: no kernel compiles here whatever the device is said to support.
    pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {}
}
