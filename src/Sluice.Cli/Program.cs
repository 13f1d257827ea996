using Sluice.Cli;

try
{
    Terminal terminal = Terminal.OfProcess();
    return Signals.RunUntilOne(terminal, () => CommandLine.Run(args, terminal));
}
catch (Exception error)
{
    LastWords.Say(error);
    return 1;
}
