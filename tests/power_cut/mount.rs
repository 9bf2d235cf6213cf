//! The disk as a file system of the kernel, whose changes are counted, and none of which happens from a chosen one on.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::disk::{Disk, Node};

/// Nothing is remembered by the kernel.
const TTL: Duration = Duration::ZERO;

/// The disk, and what happens to it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) disk: Disk,
    /// Changes so far.
    pub(super) changes: u64,
    /// The change that does not happen any more.
    pub(super) stop_at: Option<u64>,
    /// It was reached.
    pub(super) is_stopped: bool,
}

/// Shared by the file system and whoever looks on.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Machine>>);

impl Shared {
    pub(super) fn new(machine: Machine) -> Self {
        Self(Arc::new(Mutex::new(machine)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn mount(&self, at: &Path) -> io::Result<BackgroundSession> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("power-cut".into()), MountOption::NoAtime];
        fuser::spawn_mount(self.clone(), at, &config)
    }

    /// Changes the disk, if it still runs.
    fn change<T>(&self, change: impl FnOnce(&mut Disk) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut machine = self.lock();
        machine.changes += 1;
        machine.is_stopped |= machine.stop_at.is_some_and(|stop_at| machine.changes >= stop_at);
        if machine.is_stopped { Err(Errno::EIO) } else { change(&mut machine.disk) }
    }

    /// A change that a running disk makes in any case.
    fn surely(&self, change: impl FnOnce(&mut Disk)) -> Result<(), Errno> {
        self.change(|disk| {
            change(disk);
            Ok(())
        })
    }

    fn create_node(&self, parent: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        self.change(|disk| match disk.lookup(parent.0, name) {
            Some(_) => Err(Errno::EEXIST),
            None => {
                let number = disk.create(parent.0, name, node);
                attributes(disk, number).ok_or(Errno::EIO)
            }
        })
    }

    fn attributes(&self, number: INodeNo) -> Result<FileAttr, Errno> {
        attributes(&self.lock().disk, number.0).ok_or(Errno::ENOENT)
    }
}

fn attributes(disk: &Disk, number: u64) -> Option<FileAttr> {
    let (kind, size, perm) = match disk.node(number)? {
        Node::File { now, .. } => (FileType::RegularFile, now.len() as u64, 0o644),
        Node::Folder { .. } => (FileType::Directory, 0, 0o755),
    };
    Some(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

/// Answers with nothing but that it went well, or why not.
fn answer(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

impl Filesystem for Shared {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let machine = self.lock();
        let found = machine.disk.lookup(parent.0, name).and_then(|number| attributes(&machine.disk, number));
        match found {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(number) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = match size {
            Some(size) => self.change(|disk| {
                disk.content(number.0).ok_or(Errno::EISDIR)?.resize(size as usize, 0);
                Ok(())
            }),
            None => Ok(()),
        };
        match resized.and_then(|()| self.attributes(number)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(e) => reply.error(e),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        match self.create_node(parent, name, Node::folder()) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.create_node(parent, name, Node::file()) {
            Ok(attributes) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(e) => reply.error(e),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let machine = self.lock();
        match machine.disk.node(number.0) {
            Some(Node::File { now, .. }) => {
                let rest = now.get(offset as usize..).unwrap_or_default();
                reply.data(&rest[..rest.len().min(size as usize)]);
            }
            _ => reply.error(Errno::EISDIR),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.change(|disk| {
            let content = disk.content(number.0).ok_or(Errno::EISDIR)?;
            let (start, end) = (offset as usize, offset as usize + data.len());
            content.resize(content.len().max(end), 0);
            content[start..end].copy_from_slice(data);
            Ok(data.len() as u32)
        });
        match written {
            Ok(written) => reply.written(written),
            Err(e) => reply.error(e),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.surely(|disk| disk.sync(number.0)), reply);
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.surely(|disk| disk.sync(number.0)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.surely(|disk| disk.remove(parent.0, name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.change(|disk| {
            let number = disk.lookup(parent.0, name).ok_or(Errno::ENOENT)?;
            match disk.node(number) {
                Some(Node::Folder { now, .. }) if now.is_empty() => {
                    disk.remove(parent.0, name);
                    Ok(())
                }
                Some(Node::Folder { .. }) => Err(Errno::ENOTEMPTY),
                _ => Err(Errno::ENOTDIR),
            }
        });
        answer(removed, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.change(|disk| match disk.lookup(new_parent.0, new_name).and_then(|n| disk.node(n)) {
            Some(_) if !flags.is_empty() => Err(Errno::EINVAL),
            Some(Node::Folder { now, .. }) if !now.is_empty() => Err(Errno::ENOTEMPTY),
            _ => {
                disk.rename((parent.0, name.to_owned()), (new_parent.0, new_name.to_owned()));
                Ok(())
            }
        });
        answer(renamed, reply);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let machine = self.lock();
        let Some(Node::Folder { now, .. }) = machine.disk.node(number.0) else {
            return reply.error(Errno::ENOTDIR);
        };
        for (i, (name, child)) in now.iter().enumerate().skip(offset as usize) {
            let kind = match machine.disk.node(*child) {
                Some(Node::Folder { .. }) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(*child), i as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
