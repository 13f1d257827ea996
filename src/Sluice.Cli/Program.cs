return Sluice.Cli.CommandLine.Run(args);
