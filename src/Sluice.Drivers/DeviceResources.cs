using Sluice.Dma;

namespace Sluice.Drivers;

/// <summary>Routes a device's interrupt vector to a handler until the result is disposed.</summary>
/// <param name="vector">The device's vector (its MSI-X table entry), from 0.</param>
/// <param name="handler">Runs on the platform's interrupt thread, never twice at once.</param>
/// <returns>Null when the device has no such vector.</returns>
public delegate IDisposable? ConnectVector(int vector, Action handler);

/// <summary>All that a driver gets of the machine: never physical addresses, never the remapping unit.</summary>
/// <param name="Platform">Memory for buffers, and time.</param>
/// <param name="Adapter">The device's way to memory; it stays the caller's and must outlive the driver.</param>
/// <param name="Registers">The device's BAR 0.</param>
/// <param name="Interrupts">How to get interrupts; null to poll.</param>
public sealed record DeviceResources(
    IPlatform Platform, DmaAdapter Adapter, RegisterWindow Registers, ConnectVector? Interrupts = null);
