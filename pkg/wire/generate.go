// Package wire is the gRPC protocol between controller, node and export; see
// wire.proto for who serves what and for the meaning of the codes.
package wire

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative wire.proto
