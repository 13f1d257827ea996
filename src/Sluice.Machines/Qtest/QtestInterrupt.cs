namespace Sluice.Machines.Qtest;

/// <summary>
/// A change of an intercepted interrupt line, as an <c>IRQ raise N</c> or <c>IRQ lower N</c> line told it.
/// </summary>
/// <param name="Line">The input of the intercepted interrupt controller.</param>
/// <param name="IsRaised">Whether the line went up.</param>
public readonly record struct QtestInterrupt(int Line, bool IsRaised);
