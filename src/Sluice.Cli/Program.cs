using Sluice.Cli;

Terminal terminal = Terminal.OfProcess();
return Signals.RunUntilOne(terminal, () => CommandLine.Run(args, terminal));
