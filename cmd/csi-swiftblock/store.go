package main

import (
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// openStore is the Swift account that the environment names.
func openStore() (*swift.Client, error) {
	credentials, err := credentialsFromEnvironment()
	if err != nil {
		return nil, err
	}
	return swift.New(credentials, swift.Options{Reload: credentialsFromEnvironment})
}

func credentialsFromEnvironment() (swift.Credentials, error) { return swift.LoadCredentials("", "") }
