// Package disk is a SCSI direct-access block device (SPC-4, SBC-3) in front of
// a [Device].
package disk

// BlockSize is the logical block length in bytes. The physical block length
// reported beside it is 4096 (512e).
const BlockSize = 512
