//! Makes a new file like the one that it replaces: owner, mode, access control list, extended
//! attributes.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{
    Gid, Stat, Uid, XattrFlags, fchown, fgetxattr, fremovexattr, fsetxattr, fstat, lgetxattr, llistxattr,
};
use rustix::io::Errno;

/// The kernel's limit for the value of an extended attribute and for the list of their names.
const MAX_XATTR_LEN: usize = 64 << 10;

const ACL: &str = "system.posix_acl_access";

/// Attributes that describe the content of a file. Writing to a file removes them, too.
const OF_CONTENT: [&str; 3] = ["security.capability", "security.evm", "security.ima"];

/// Copies owner, mode, access control list and extended attributes from the file at `path`, which
/// has this metadata. Returns the names of the attributes that cannot be copied.
pub fn copy(path: &Path, metadata: &Stat, new: &File) -> Result<Vec<String>, String> {
    let own = fstat(new).map_err(|error| error.to_string())?;
    if (own.st_uid, own.st_gid) != (metadata.st_uid, metadata.st_gid) {
        let (owner, group) = (Uid::from_raw(metadata.st_uid), Gid::from_raw(metadata.st_gid));
        let owner = (own.st_uid != metadata.st_uid).then_some(owner);
        fchown(new, owner, Some(group)).map_err(|error| format!("its owner cannot be kept: {error}"))?;
    }
    let lost = copy_xattrs(path, new).map_err(|error| format!("its access control list cannot be kept: {error}"))?;
    // Without set-user-ID and set-group-ID: they were given to other content.
    let mode = Permissions::from_mode(metadata.st_mode & 0o777);
    new.set_permissions(mode).map_err(|error| format!("its mode cannot be kept: {error}"))?;
    Ok(lost)
}

/// Fails if the access control list cannot be copied. Returns the names of other attributes that
/// cannot be copied.
fn copy_xattrs(path: &Path, new: &File) -> Result<Vec<String>, Errno> {
    let mut names = vec![0; MAX_XATTR_LEN];
    let length = llistxattr(path, names.as_mut_slice()).unwrap_or(0); // the file system may have none
    names.truncate(length);
    let (mut old_value, mut new_value) = (vec![0; MAX_XATTR_LEN], vec![0; MAX_XATTR_LEN]);
    let mut lost = Vec::new();
    let mut has_acl = false;
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let is_acl = name == ACL.as_bytes();
        has_acl |= is_acl;
        if OF_CONTENT.iter().any(|skipped| name == skipped.as_bytes()) {
            continue;
        }
        let copied = lgetxattr(path, name, old_value.as_mut_slice()).and_then(|length| {
            let value = &old_value[..length];
            match fgetxattr(new, name, new_value.as_mut_slice()) {
                Ok(length) if new_value[..length] == *value => Ok(()),
                _ => fsetxattr(new, name, value, XattrFlags::empty()),
            }
        });
        match copied {
            Err(error) if is_acl => return Err(error),
            Err(_) => lost.push(String::from_utf8_lossy(name).into_owned()),
            Ok(()) => {}
        }
    }
    if !has_acl {
        // The new file may have inherited one from its directory.
        match fremovexattr(new, ACL) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lost)
}
