// Package target is an iSCSI target (RFC 7143): it serves block devices to the
// Linux initiator, libiscsi and qemu.
//
// The walk of a command, from the wire to the device and back:
//
//	pdu.Reader ── session.receive ── task ── worker ── disk.Units ── Device
//	              one reader per      │      task.run    SCSI
//	              session, never      │
//	              waits for a task    └ unsolicited data-out collected by the reader,
//	                                    the rest asked for by the worker (R2T)
//
//	connection ── session.flush ── outbox ── session.finish
//	              one writev for    StatSN given
//	              all that waits    as it is posted
//
// What is where: [Server] has the portal and the registered targets; node is one
// of them, with its sessions; session is one initiator's, from login (entry.go) to
// end; task is a command. Package login is the login phase, package pdu the wire
// form, package disk the SCSI device. gotgt (github.com/gostor/gotgt) knows this
// transport as a target driver (driver.go); disk says what else is used of it.
//
// Properties that the rest of the system builds on:
//
//   - R9: a task management response, a login that reinstates a session and
//     [Server.RemoveTarget] come only when no affected command is inside a Device
//     any more, and what a cancelled command has not applied by then it never will.
//   - An error of a Device is never answered with GOOD; see [ErrMedium], [ErrGone]
//     and [ErrUnavailable].
//   - A command that is held up, however long, holds up no other command, no NOP
//     and no task management: there is a worker for each command in flight, and the
//     CmdSN window lets in no more than there may be.
//   - What a session allocates is bounded (session.go), and only for lengths that
//     were agreed on or that a valid CDB asks for.
//
// Error recovery level 0 and one connection per session, as the Linux initiator
// wants it: whatever goes wrong on a connection ends the session, and the
// initiator logs in again and resends.
package target
