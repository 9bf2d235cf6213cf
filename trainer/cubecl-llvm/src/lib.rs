//! A stand-in for the crate `cubecl-llvm` that needs no LLVM.
//!
//! # Why it exists
//!
//! `cubecl-cuda` always depends on `cubecl-llvm`, whose build script downloads an LLVM from the
//! internet. A build should not need that, and a build without network access cannot do it.
//!
//! `cubecl-cuda` has two compilers: one that lowers kernels to PTX through LLVM, and one that
//! writes CUDA C++ and gives it to NVRTC. Its feature `cpp` selects the second. Both are always
//! part of the build, so the LLVM one has to type-check even where it never runs. This crate has
//! the types `cubecl-cuda` names for it and nothing behind them. It replaces the real crate under
//! `[patch.crates-io]`.
//!
//! # What happens if it is reached
//!
//! With `cpp` on, the only function here that runs is
//! [`PtxVersion::for_driver`](nvptx::ptx_version::PtxVersion::for_driver), which `cubecl-cuda`
//! calls for each device whichever compiler it uses, and `None` is a correct answer there.
//!
//! With `cpp` off, a CUDA device still opens, and every kernel fails to compile with a
//! [`CompilationError::Generic`] that says to turn the feature on.
//!
//! # What it covers
//!
//! The CUDA side only. `cubecl-cpu` and `cubecl-hip` use other parts of the real crate and do not
//! build against this one.

pub mod nvptx;
pub mod shared;

use core::ffi::c_char;
use core::fmt;

use cubecl_core::environment::backtrace::BackTrace;
use cubecl_core::ir::{amd::GfxArch, nvidia::SmArch};
use cubecl_runtime::{
    compiler::{CompilationError, Compiler},
    kernel::{BufferIOAttr, KernelDefinition},
};

use crate::nvptx::ptx_version::PtxVersion;

/// What the LLVM compiler emits code for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LlvmTarget {
    /// NVIDIA GPUs, through PTX.
    Nvptx,
}

/// The LLVM compiler. It refuses every kernel.
#[derive(Clone, Debug)]
pub struct PlironCompiler {
    /// What to emit code for.
    pub target: LlvmTarget,
}

/// Options of the LLVM compiler. Nothing reads them.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// Minimum alignment of buffers on a CPU.
    pub cpu_buffer_alignment: Option<u32>,
    /// The AMD GPU to compile for.
    pub arch: Option<GfxArch>,
    /// The NVIDIA GPU to compile for.
    pub sm_arch: Option<SmArch>,
    /// The PTX version to emit.
    pub ptx_version: Option<PtxVersion>,
    /// Whether scalars and static metadata go in the kernel parameter block.
    pub grid_constants: bool,
}

/// A kernel compiled to PTX. None is ever made.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// NUL-terminated PTX assembly.
    pub ptx: Vec<c_char>,
    /// The symbol of the kernel's entry point.
    pub entrypoint: String,
    /// The LLVM IR, for logs.
    pub ir: String,
    /// Shared memory that a launch needs, in bytes.
    pub shared_memory_size: usize,
    /// What the kernel does with each buffer, in binding order.
    pub io: Vec<BufferIOAttr>,
}

/// What the LLVM compiler makes of a kernel. None is ever made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PlironArtifact {
    /// PTX for an NVIDIA GPU.
    NvptxCode(NvptxModule),
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NvptxCode(module) => f.write_str(&module.ir),
        }
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    /// Always fails: there is no LLVM in this build.
    fn compile(
        &mut self,
        kernel: KernelDefinition,
        _options: &Self::CompilationOptions,
    ) -> Result<Self::Representation, CompilationError> {
        Err(CompilationError::Generic {
            reason: format!(
                "kernel `{}` was given to the LLVM compiler, which this build replaces with a \
                 stand-in: turn on the feature `cpp` of `cubecl-cuda` to compile kernels with \
                 NVRTC",
                kernel.settings.kernel_name
            ),
            backtrace: BackTrace::capture(),
        })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}
