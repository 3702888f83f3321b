// Package snapshots keeps a volume's history: roots, the paged version tables
// they name, and the records of snapshots and clones that pin roots.
//
// # Tables
//
// A [Table] says for each chunk of a volume which objects hold its newest data.
// It is cut into pages of 4096 chunks (32 GiB of the volume), each an object of
// its own; pages that have no entries do not exist. A [Root] names the pages with
// their hashes, so that the root's hash proves the whole table. Reading never
// follows a chain of roots: a clone's first root names its parent's pages, whose
// containers stand in its dictionary.
//
// A generation that changes few chunks puts their entries into the root itself,
// as its recent entries, which go before those of the pages. Only when there are
// too many of them are the pages with the most written again. So neither does a
// snapshot of a few scattered writes rewrite hundreds of pages, nor do roots grow.
//
// # Objects
//
// Pages, roots, snapshot records and pins have one form. Numbers are little-endian;
// uvarint is that of encoding/binary in its shortest form; a string is a uvarint length
// and its bytes.
//
//	"swbltabl"        magic
//	uint8             version, 1
//	uint8             kind: 't' page, 'r' root, 's' snapshot record, 'p' pin
//	uint8             0 body stored as it is, 1 body compressed by zstd
//	uint8             0
//	uint32            length of the raw body
//	bytes             body
//	uint32            CRC32C of everything before
//
//	raw body:
//	string            full name of the object, "container/name"
//	...               as its kind says
//
//	epoch:            uvarint number, uint64 tag
//	ref:              epoch, uvarint generation, 32 bytes SHA-256 of the root's object
//	place:            uint8 1, string container, ref of a root in it; or uint8 0: none
//	time:             uvarint milliseconds since 1970; 0 is no time
//	origin:           uvarint index of a container in the root's dictionary, epoch,
//	                  uint64 opening
//
//	page:
//	  entries         chunks counted from the page's first
//
//	root:
//	  uvarint         size of the volume in sectors of 512 bytes
//	  uint8           formatted mark: 0 never, 1 formatting, 2 formatted
//	  uint8           1: closed in good order, else 0
//	  time            when the generation was cut
//	  string          snapshot that it was cut for, or empty
//	  place           the parent
//	  uvarint ...     dictionary of containers: count, then of each
//	    string          name
//	    uvarint         key id, 0 for none
//	  uvarint ...     origins of the pages, each used, in the order of first use
//	  uvarint ...     pages: count, then of each
//	    uvarint         page number, minus one more than that of the page before
//	    uvarint         index of its origin
//	    uvarint         generation that wrote it
//	    32 bytes        SHA-256 of its object
//	  entries         the recent ones, at most 2048
//
//	entries, by column, all sorted by chunk:
//	  uvarint ...     origins: count, then each, all used, in the order of first use
//	  uvarint         number of entries
//	  uvarint ...     chunk, minus one more than that of the entry before
//	  uint8 ...       number of patches
//	  planes          base: an object, or 0. Without base and patches an entry is
//	                  for a chunk of zeros, which only recent entries are.
//	  planes          patches of all entries, oldest first: objects
//
//	object, a word of 64 bits: index of the origin plus one (16 bits), number of
//	the pack in its generation, 0 for a base (16 bits), generation (32 bits)
//	planes: the highest bytes of all words, then the next bytes of all, and so on
//
//	snapshot record:  string id, string source volume, place, uvarint size in bytes, time
//	pin:              string child, place, time
//
// Tables copy one another's pages, so the indexes of a page must mean the same
// for every root that names it: a root's dictionary starts with its parent's.
package snapshots
