// Package delta is the ordered journal of one volume on the node's own disk.
package delta
